//! Shell: who may ask for what (hardening J13, J14).

use super::*;

#[tokio::test]
async fn j14_what_is_not_offered_is_refused_by_name() {
    local(async {
        let rig = rig();
        let (metrics, admin) = (rig.servers.metrics_address().unwrap(), rig.servers.admin_address().unwrap());
        let large = limits::ADMIN_BODY_BYTES + 1;
        let weight = "/api/pools/web/endpoints/192.0.2.1:80/weight";
        let cases = [
            // The metrics listener shows metrics, to anybody, and nothing else.
            (metrics, "GET /healthz HTTP/1.1\r\nHost: evil.example".to_owned(), 200),
            (metrics, "HEAD /metrics HTTP/1.1\r\nHost: x".to_owned(), 200),
            (metrics, "GET /readyz HTTP/1.1\r\nHost: x".to_owned(), 200),
            (metrics, "GET /readyz?service=edge HTTP/1.1\r\nHost: x".to_owned(), 200),
            (metrics, "GET /readyz?all HTTP/1.1\r\nHost: x".to_owned(), 200),
            (metrics, "GET /readyz?service=nobody HTTP/1.1\r\nHost: x".to_owned(), 404),
            (metrics, "GET /readyz?servic=edge HTTP/1.1\r\nHost: x".to_owned(), 400),
            (metrics, "GET /api/status HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "GET /api/config HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "POST /api/reload HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, format!("POST {weight} HTTP/1.1\r\nHost: localhost"), 404),
            (metrics, "POST /metrics HTTP/1.1\r\nHost: x".to_owned(), 405),
            (metrics, "GET / HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "GET /dashboard/script.js HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (metrics, "GET /nothing HTTP/1.1\r\nHost: x".to_owned(), 404),
            // Reads.
            (metrics, "GET /api/explain?what=GET%20/ HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/explain?what=GET+/&service=edge HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/explain HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET%0d%0a/ HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET+/&what=GET+/ HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET+/&frm=1.2.3.4 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=GET+/&from=%ff HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/explain?what=tcp+1.2.3.4 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (
                admin,
                format!(
                    "GET /api/explain?what={} HTTP/1.1\r\nHost: localhost",
                    "x".repeat(limits::EXPLAIN_QUERY_BYTES)
                ),
                400,
            ),
            (admin, "POST /api/explain?what=GET+/&service=edge HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "GET /api/services HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/services/ HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/../api/config HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/%zz HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "DELETE /api/services HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            // Changes by POST only.
            (admin, "GET /api/reload HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "PUT /api/pools/web/endpoints/192.0.2.1:80/drain HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "POST /api/pools/web/endpoints/192.0.2.1:80/burn HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "POST /api/pools/nope/endpoints/x/drain HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            // Names of this machine only, however they are written.
            (admin, "GET /api/services HTTP/1.1\r\nHost: LOCALHOST:9900".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: 127.8.8.8:1".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: [::1]".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: [::1]:9900".to_owned(), 200),
            (admin, "GET /api/services HTTP/1.1\r\nHost: evil.example".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.1\r\nHost: localhost.evil.example".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.1\r\nHost: 127.0.0.1.evil.example".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.1\r\nHost: 192.0.2.1".to_owned(), 403),
            (admin, "GET /api/services HTTP/1.0\r\nAccept: x".to_owned(), 403),
            // A page of another origin changes nothing, whatever it claims.
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example"), 403),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nOrigin: null"), 403),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site"), 403),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost"), 400),
            // Nor does a form, whatever its browser leaves out.
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain"), 415),
            (
                admin,
                "POST /api/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data".to_owned(),
                415,
            ),
            // Events and diagnostics.
            (admin, "GET /api/events HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/events?since=18446744073709551615&limit=1 HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /api/events?since=-1 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/events?limit=0 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/events?limit=1&limit=2 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (admin, "GET /api/events?until=2 HTTP/1.1\r\nHost: localhost".to_owned(), 400),
            (metrics, "GET /api/events HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/diagnostics HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            // Nothing is a file but those of the dashboard, and they are for names of this machine too.
            (admin, "GET / HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET /?x=y HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "HEAD /dashboard/script.js HTTP/1.1\r\nHost: localhost".to_owned(), 200),
            (admin, "GET / HTTP/1.1\r\nHost: evil.example".to_owned(), 403),
            (admin, "POST / HTTP/1.1\r\nHost: localhost".to_owned(), 405),
            (admin, "GET /dashboard HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /dashboard/ HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /dashboard/index.html HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /dashboard/..%2f..%2fapi.rs HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/../../etc/passwd HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            (admin, "GET /api/%2e%2e%2fconfig HTTP/1.1\r\nHost: localhost".to_owned(), 404),
            // Bodies.
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost"), 400),
            (admin, format!("POST {weight} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {large}"), 413),
        ];
        for (address, head, want) in cases {
            let (status, answer) = raw(address, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(status, want, "{head}\n{answer}");
            if want >= 400 {
                let body = answer.split_once("\r\n\r\n").unwrap().1;
                let problem: crate::admin::document::Problem = serde_json::from_str(body).unwrap();
                assert!(!problem.error.is_empty());
                assert_eq!(want == 405, answer.to_lowercase().contains("\r\nallow: "), "{answer}");
            }
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
    })
    .await;
}

/// Who has no token gets nothing, whatever he asks for and wherever he comes from.
#[tokio::test]
async fn j13_j14_a_token_is_asked_of_everybody() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let everywhere = Listen::parse("0.0.0.0:0").unwrap();
    local(async {
        for listen in [Listen::parse("127.0.0.1:0").unwrap(), everywhere] {
            let token = Some(Secret::new(TOKEN));
            let rig = rig_with(Settings { admin: Some(AdminListen::Tcp(listen)), admin_token: token, ..settings() });
            let port = rig.servers.admin_address().unwrap().port();
            let admin = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            let metrics = rig.servers.metrics_address().unwrap();
            let right = format!("Authorization: Bearer {TOKEN}");
            let lower = format!("authorization: bearer  {TOKEN}");
            let upper = format!("Authorization: Bearer {}", TOKEN.to_uppercase());
            let longer = format!("Authorization: Bearer {TOKEN}0");
            let basic = format!("Authorization: Basic {TOKEN}");
            let twice = format!("{right}\r\n{right}");
            let drain = "POST /api/pools/web/endpoints/192.0.2.1:80/drain";
            let weight = "POST /api/pools/web/endpoints/192.0.2.1:80/weight";
            for (address, ask, field, want) in [
                (admin, "GET /api/config", &*right, 200),
                (admin, "GET /metrics", &right, 200),
                (admin, "GET /api/config", &lower, 200),
                (admin, "GET /api/config", "X: y", 401),
                (admin, "GET /api/config", &upper, 401),
                (admin, "GET /api/config", &longer, 401),
                (admin, "GET /api/config", "Authorization: Bearer ", 401),
                (admin, "GET /api/config", "Authorization: Bearer", 401),
                (admin, "GET /api/config", &basic, 401),
                (admin, "GET /api/config", &twice, 401),
                (admin, "GET /metrics", "X: y", 401),
                // Nor is it told what there is.
                (admin, "GET /api/nothing", "X: y", 401),
                (admin, "GET /api/nothing", &right, 404),
                (admin, drain, "X: y", 401),
                (admin, "DELETE /api/config", "X: y", 401),
                (admin, weight, &right, 400),
                // Whether it lives, everybody may ask; and metrics where they are for everybody.
                (admin, "GET /healthz", "X: y", 200),
                (admin, "GET /readyz", "X: y", 200),
                // The page that asks for the token has nothing to hide.
                (admin, "GET /", "X: y", 200),
                (admin, "GET /dashboard/api.js", "X: y", 200),
                (metrics, "GET /metrics", "X: y", 200),
            ] {
                let request = format!("{ask} HTTP/1.1\r\nHost: localhost\r\n{field}\r\nConnection: close\r\n\r\n");
                let (status, answer) = raw(address, &request).await;
                assert_eq!(status, want, "{listen} {ask} {field}\n{answer}");
                let challenge = answer.to_lowercase().contains("\r\nwww-authenticate: bearer realm=\"strata\"");
                assert_eq!(challenge, want == 401, "{answer}");
                let wrong = field.starts_with("Authorization") && want == 401;
                assert_eq!(answer.contains("error=\"invalid_token\""), wrong, "{field}\n{answer}");
                assert!(!answer.contains(TOKEN), "{answer}");
            }
            // Names of this machine only where others do not come in.
            let (status, _) = raw(
                admin,
                &format!("GET /api/pools HTTP/1.1\r\nHost: lb.example\r\n{right}\r\nConnection: close\r\n\r\n"),
            )
            .await;
            assert_eq!(status, if listen == everywhere { 200 } else { 403 });
            let client = Client::new(AdminListen::Tcp(Listen::At(admin)));
            let error = client.status().await.unwrap_err().to_string();
            assert!(error.contains("--token-file"), "{error}");
            let client = client.token(&Secret::new(TOKEN)).unwrap();
            assert_eq!(client.status().await.unwrap().generation, 1);
        }
        // While a reload takes the token and such a listener away.
        let rig = rig_with(Settings { admin: Some(AdminListen::Tcp(everywhere)), ..settings() });
        let admin = std::net::SocketAddr::from(([127, 0, 0, 1], rig.servers.admin_address().unwrap().port()));
        for path in ["/api/config", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert_eq!(raw(admin, &request).await.0, 401, "{path}");
        }
    })
    .await;
}
