//! Shell: what was changed stands in the log, whatever becomes of who asked for it.

use super::*;
use crate::net::rig::until;
use crate::observe::events;

#[tokio::test]
async fn a_change_is_logged_also_where_whoever_asked_does_not_wait_for_the_answer() {
    local(async {
        events::keep_in_tests();
        let mut rig = rig();
        let mut stream = TcpStream::connect(rig.servers.admin_address().unwrap()).await.unwrap();
        let peer = format!("peer=\"{}\" ", stream.local_addr().unwrap());
        let request = "POST /api/pools/web/endpoints/192.0.2.1:80/weight HTTP/1.1\r\nHost: localhost\r\n\
            Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"weight\":7}";
        stream.write_all(request.as_bytes()).await.unwrap();
        let Some(Request::SetWeight { weight, reply, .. }) = rig.requests.recv().await else {
            panic!("nothing is asked of the control side")
        };
        assert_eq!(weight.get(), 7);
        // It goes, and the listener has noticed.
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
        // Only now does it take effect.
        let _ = reply.send(Ok(()));
        let is_it = |event: &events::Event| {
            let done = ["done through the admin API", &peer, "request=\"weight web 192.0.2.1:80\"", "status=200"];
            event.kind == events::ADMIN && done.iter().all(|part| event.text.contains(part))
        };
        until("it is logged", || events::ring().page(None, limits::EVENTS).events.iter().any(is_it)).await;
    })
    .await;
}
