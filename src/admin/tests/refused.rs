//! Shell: tests that every refusal is counted by its reason, on both listeners, and nothing else is; and of what `/metrics` says of
//! threads and probes that are late.

use super::*;
use crate::admin::Why;
use crate::base::Moment;

/// What each reason was counted.
fn counts(text: &str) -> Vec<(&'static str, f64)> {
    let count = |why: &Why| {
        let name = format!("strata_admin_requests_refused_total{{reason=\"{}\"}}", why.word());
        (why.word(), series(text, &name).unwrap_or_else(|| panic!("no series {name}")))
    };
    Why::ALL.iter().map(count).collect()
}

#[tokio::test]
async fn every_refusal_is_counted_by_its_reason_and_nothing_else_is() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    local(async {
        let mut rig = rig_with(Settings { admin_token: Some(Secret::new(TOKEN)), ..settings() });
        let (admin, metrics) = (rig.servers.admin_address().unwrap(), rig.servers.metrics_address().unwrap());
        assert!(counts(&rig.metrics().await).iter().all(|(_, count)| *count == 0.0), "from the start, at zero");
        let right = format!("Authorization: Bearer {TOKEN}");
        let endpoint = "/api/pools/web/endpoints/192.0.2.1:80";
        let large = format!("{right}\r\nContent-Length: {}", limits::ADMIN_BODY_BYTES + 1);
        let json = format!("{right}\r\nContent-Type: application/json");
        let cases = [
            (admin, "GET /api/pools", "Host: evil.example".to_owned(), "host"),
            (admin, "POST /api/reload", "Host: localhost\r\nOrigin: http://evil.example".to_owned(), "origin"),
            (admin, "GET /api/pools", "Host: localhost".to_owned(), "no-token"),
            (admin, "GET /metrics", "Host: localhost\r\nAuthorization: Bearer 0".to_owned(), "wrong-token"),
            (
                admin,
                "POST /api/reload",
                format!("Host: localhost\r\n{right}\r\nContent-Type: text/plain"),
                "content-type",
            ),
            (admin, "GET /api/nothing", format!("Host: localhost\r\n{right}"), "not-found"),
            (metrics, "GET /api/pools", "Host: x".to_owned(), "not-found"),
            (admin, &format!("POST {endpoint}0/drain"), format!("Host: localhost\r\n{right}"), "not-found"),
            (metrics, "POST /metrics", "Host: x".to_owned(), "method"),
            (admin, "GET /api/events?limit=0", format!("Host: localhost\r\n{right}"), "bad-request"),
            (admin, &format!("POST {endpoint}/weight"), format!("Host: localhost\r\n{json}"), "bad-request"),
            (admin, &format!("POST {endpoint}/weight"), format!("Host: localhost\r\n{large}"), "body-too-large"),
            // What is answered counts nothing.
            (admin, "GET /api/pools", format!("Host: localhost\r\n{right}"), ""),
            (admin, "GET /readyz", "Host: localhost".to_owned(), ""),
            (metrics, "GET /healthz", "Host: x".to_owned(), ""),
        ];
        // Whoever asks for a document is answered without the keeper's part of it.
        drop(std::mem::replace(&mut rig.requests, mpsc::channel(1).1));
        let mut before = counts(&rig.metrics().await);
        for (address, ask, fields, reason) in cases {
            let (status, answer) =
                raw(address, &format!("{ask} HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n")).await;
            let after = counts(&rig.metrics().await);
            for ((word, then), (_, now)) in before.iter().zip(&after) {
                assert_eq!(now - then, if *word == reason { 1.0 } else { 0.0 }, "{ask} {fields}: {word}\n{answer}");
            }
            let why = Why::ALL.iter().find(|why| why.word() == reason);
            assert_eq!(status, why.map_or(200, |why| why.status()), "{ask} {fields}");
            before = after;
        }
        // The control side is gone: nobody drains.
        let drain =
            format!("POST {endpoint}/drain HTTP/1.1\r\nHost: localhost\r\n{right}\r\nConnection: close\r\n\r\n");
        assert_eq!(raw(admin, &drain).await.0, 503);
        assert!(counts(&rig.metrics().await).contains(&("stopping", 1.0)));
    })
    .await;
}

/// Neither may be 0 whatever happens, nor grow while all is well.
#[tokio::test]
async fn a_thread_that_is_silent_and_a_probe_that_is_due_show_for_how_long() {
    local(async {
        let rig = rig();
        let show = |text: &str| {
            ["strata_thread_silence_seconds", "strata_probes_overdue_seconds"]
                .map(|name| series(text, name).unwrap_or_else(|| panic!("no series {name}")))
        };
        let since = |moment: Moment| clock::now().since(moment).as_secs_f64();
        // Since this process began to count time, which took some.
        let beats: Vec<_> = (0..3).map(|n| rig.crew.beats.begin(format!("loop {n}"), clock::now())).collect();
        beats[1].beat(Moment::ZERO);
        rig.crew.next_probe_due(Some(Moment::ZERO));
        let least = since(Moment::ZERO);
        for shown in show(&rig.metrics().await) {
            assert!(least > 0.0 && (least..=since(Moment::ZERO)).contains(&shown), "{least} {shown}");
        }
        // Two workers and the control thread are at their tasks, and one that is due in a while is not late.
        let start = clock::now();
        beats.iter().for_each(|beat| beat.beat(start));
        rig.crew.next_probe_due(Some(start + Duration::from_secs(3600)));
        let [silence, overdue] = show(&rig.metrics().await);
        assert!(silence <= since(start) && overdue == 0.0, "{silence} {overdue}");
        rig.crew.next_probe_due(None);
        assert_eq!(show(&rig.metrics().await)[1], 0.0, "none waits");
    })
    .await;
}
