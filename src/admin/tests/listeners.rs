//! Shell: the sockets: opened, kept and closed as the file says, and held by nobody for long.

use super::*;

#[tokio::test]
async fn a_unix_socket_is_its_owners_and_serves_whatever_the_host_is() {
    local(async {
        let path = scratch("owner");
        let on_path = Settings { admin: Some(AdminListen::Unix(path.clone())), ..settings() };
        // A file that a killed process left behind.
        drop(UnixListener::bind(&path).unwrap());
        let mut first = rig_with(on_path.clone());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let client = Client::new(AdminListen::Unix(path.clone()));
        assert_eq!(client.status().await.unwrap().generation, 1);

        // Another process would not take it away.
        let error = rig().servers.prepare(&on_path).err().unwrap();
        assert!(error.contains("[admin]") && error.contains("another process serves there"), "{error}");

        let prepared = first.servers.prepare(&settings()).unwrap();
        first.servers.commit(prepared);
        assert!(!path.exists(), "the file goes with its listener");
        let gone = client.status().await.unwrap_err();
        assert!(matches!(gone, ClientError::Unreachable { .. }), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn a_reload_leaves_the_listeners_it_does_not_name_alone() {
    local(async {
        let mut rig = rig();
        let (metrics, admin) = (rig.servers.metrics_address().unwrap(), rig.servers.admin_address().unwrap());
        let mut kept = TcpStream::connect(admin).await.unwrap();

        let same = rig.servers.prepare(&settings()).unwrap();
        rig.servers.commit(same);
        assert_eq!((rig.servers.metrics_address(), rig.servers.admin_address()), (Some(metrics), Some(admin)));

        // An address that cannot be had changes nothing.
        let taken = Settings { metrics: Some(Listen::At(admin)), ..settings() };
        let error = rig.servers.prepare(&taken).err().unwrap();
        assert!(error.starts_with("[metrics]: ") && error.contains(&admin.to_string()), "{error}");

        let gone = rig.servers.prepare(&Settings { metrics: None, ..settings() }).unwrap();
        rig.servers.commit(gone);
        assert_eq!((rig.servers.metrics_address(), rig.servers.admin_address()), (None, Some(admin)));
        assert!(TcpStream::connect(metrics).await.is_err());

        kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    })
    .await;
}

/// The admin listener, with what `Servers` has been told since.
fn opened_anew(rig: &mut Rig) -> std::net::SocketAddr {
    for settings in [Settings { admin: None, ..settings() }, settings()] {
        let prepared = rig.servers.prepare(&settings).unwrap();
        rig.servers.commit(prepared);
    }
    rig.servers.admin_address().unwrap()
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    local(async {
        let mut rig = rig();
        rig.servers.bounds.idle = Duration::from_millis(200);
        let admin = opened_anew(&mut rig);
        let mut idle = Vec::new();
        for _ in 0..limits::ADMIN_CONNECTIONS + 1 {
            idle.push(TcpStream::connect(admin).await.unwrap());
        }
        let (status, _) = raw(admin, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status, 200);
    })
    .await;
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_keep_others_out() {
    // More than the kernel takes for a connection on either side.
    const ANSWER: usize = 16 << 20;
    local(async {
        let mut rig = rig();
        // Whoever reads is through long before, on a busy machine too.
        rig.servers.bounds.answer = Duration::from_secs(3);
        rig.servers.bounds.connections = 2;
        // Not by this are they to go.
        rig.servers.bounds.idle = Duration::from_secs(3600);
        let admin = opened_anew(&mut rig);
        let mut large = compile(TEXT, &rig.crew.snapshot.load());
        large.effective = serde_json::Value::String("x".repeat(ANSWER));
        rig.crew.snapshot.store(Arc::new(large));
        let question = "GET /api/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut deaf = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(admin).await.unwrap();
            stream.write_all(question.as_bytes()).await.unwrap();
            deaf.push(stream);
        }
        // Both places are held until one of those is late; and whoever reads gets all of as large an answer.
        let (status, answer) = raw(admin, question).await;
        assert!(status == 200 && answer.len() > ANSWER, "{status}, {} bytes", answer.len());
        let mut least = usize::MAX;
        for mut stream in deaf {
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got).await;
            least = least.min(got.len());
        }
        assert!(least < ANSWER, "whoever made room was cut off");
    })
    .await;
}
