//! Shell: tests of what goes with the dashboard's files, of who may be talked into a change through a browser, and of an admin API
//! that changes nothing.

use super::*;
use crate::admin::dashboard;

/// Fields in lower case, and the body.
async fn get(admin: std::net::SocketAddr, path: &str) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (status, answer) = raw(admin, &request).await;
    let (fields, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, fields.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_dashboard_comes_with_a_policy_that_lets_nothing_else_in() {
    local(async {
        let rig = rig();
        let admin = rig.servers.admin_address().unwrap();
        let files = dashboard::ASSETS.iter().map(|asset| (format!("/dashboard/{}", asset.name), asset));
        for (path, asset) in files.chain([("/".to_owned(), &dashboard::PAGE)]) {
            let (status, fields, body) = get(admin, &path).await;
            assert_eq!((status, &*body), (200, asset.text), "{path}");
            for field in [
                "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'; form-action 'none'",
                "require-trusted-types-for 'script'; trusted-types 'none'",
                "x-frame-options: deny",
                "x-content-type-options: nosniff",
                "referrer-policy: no-referrer",
                "cross-origin-resource-policy: same-origin",
                "cross-origin-opener-policy: same-origin",
                "cache-control: no-store",
                &format!("content-type: {}", asset.kind),
            ] {
                assert!(fields.contains(field), "{path} lacks {field}\n{fields}");
            }
            assert!(!fields.contains("unsafe") && !fields.contains("access-control"), "{fields}");
        }
    })
    .await;
}

/// What the policy would only stop in a browser that knows it is not there to be stopped.
#[test]
fn the_page_names_only_files_that_are_there_and_makes_no_markup() {
    let page = dashboard::PAGE.text;
    let named = |text: &'static str, before: &str| {
        text.split(before).skip(1).filter_map(|after| after.split(['"', '\'']).next()).collect::<Vec<_>>()
    };
    for name in named(page, "dashboard/") {
        assert!(dashboard::find(name).is_some(), "{name} is not there");
    }
    for asset in dashboard::ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
        for name in named(asset.text, "from './") {
            assert!(dashboard::find(name).is_some(), "{}: {name} is not there", asset.name);
        }
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "Function("]
        {
            assert!(!asset.text.contains(way), "{} has {way}: text goes in as text", asset.name);
        }
    }
    for link in named(page, "src=\"").into_iter().chain(named(page, "href=\"")) {
        assert!(link.starts_with("dashboard/") || link.starts_with('#'), "{link} leads elsewhere");
    }
    for asset in dashboard::ASSETS {
        let elsewhere =
            named(asset.text, "//").into_iter().find(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
        assert!(elsewhere.is_none_or(|rest| rest.starts_with("www.w3.org/2000/svg")), "{}: {elsewhere:?}", asset.name);
    }
    assert!(
        !page.contains("<script>") && !page.contains(" style=") && !page.contains(" onclick="),
        "the policy forbids it"
    );
}

#[tokio::test]
async fn a_unix_socket_that_is_forwarded_answers_to_no_name_that_dns_gives_out() {
    local(async {
        let path = scratch("rebound");
        let _rig = rig_with(Settings { admin: Some(AdminListen::Unix(path.clone())), ..settings() });
        for (host, want) in [
            ("localhost:9900", 200),
            ("127.0.0.1:9900", 200),
            ("[::1]:9900", 200),
            // What `curl --unix-socket … http://strata/…` says.
            ("strata", 200),
            ("evil.example", 403),
            ("evil.example:9900", 403),
            ("localhost.evil.example", 403),
            ("192.0.2.1", 403),
        ] {
            let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
            let request = format!("GET /api/pools HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{host}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_api_that_is_read_only_shows_and_changes_nothing() {
    local(async {
        let mut rig = rig_with(Settings { admin_read_only: true, ..settings() });
        let admin = rig.servers.admin_address().unwrap();
        let endpoint = "/api/pools/web/endpoints/192.0.2.2:80";
        for operation in super::super::operations::OPERATIONS {
            let changes = operation.does == super::super::operations::Does::Change;
            let path = operation.path.replace("/api/pools/{pool}/endpoints/{endpoint}", endpoint);
            if !changes {
                continue;
            }
            let body = "{\"weight\": 5}";
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            let (status, answer) = raw(admin, &request).await;
            assert!(status == 403 && answer.contains("read-only") && answer.contains("kill -HUP"), "{path}: {answer}");
        }
        assert!(rig.requests.try_recv().is_err(), "nothing was asked of the control side");
        let (status, _, body) = get(admin, "/api/status").await;
        assert!(status == 200 && body.contains("\"read_only\": true"), "{body}");
    })
    .await;
}
