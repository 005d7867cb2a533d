//! A mode that panics, beside connections that do not; and accepting that does.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::accept::Place;
use crate::net::rig::{self, Rig, until};
use crate::observe::panics;

/// Echoes; a connection that says "!" meets a mistake of ours.
struct Mistaken(Rc<Worker>);

impl Mode for Mistaken {
    fn serve(self: Rc<Self>, mut accepted: Accepted) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let snapshot = self.0.snapshot();
            let service = snapshot.service(accepted.service).unwrap();
            let limits = &service.spec.limits;
            let Ok(mut place) = Place::take(&self.0, &service.kept, limits, accepted.peer) else { return };
            place.begin();
            let mut byte = [0];
            while accepted.stream.read_exact(&mut byte).await.is_ok() {
                assert_ne!(&byte, b"!", "a mistake");
                accepted.stream.write_all(&byte).await.unwrap();
            }
            place.end();
        })
    }
}

#[tokio::test]
async fn j12_a_task_that_panics_costs_its_connection_and_no_other_and_is_counted() {
    rig::local(async {
        panics::watch_beside();
        let before = panics::count();
        let rig = Rig::new(&[], |_| {});
        let mode: Rc<dyn Mode> = Rc::new(Mistaken(rig.worker.clone()));
        let modes = Modes { by_kind: HashMap::from([("l4", mode)]) };
        let mut clients = Vec::new();
        for _ in 0..5 {
            let (client, accepted) = rig.client().await;
            modes.serve(&rig.worker, accepted);
            clients.push(client);
        }
        let open = || rig.worker.crew.connections();
        until("all are open", || open() == 5).await;
        let mut byte = [0];
        for unlucky in clients.drain(..2) {
            let mut unlucky = unlucky;
            unlucky.write_all(b"!").await.unwrap();
            assert_eq!(unlucky.read(&mut byte).await.unwrap_or(0), 0, "it ends");
        }
        for client in &mut clients {
            client.write_all(b"x").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"x", "the others go on");
        }
        assert_eq!(open(), 3, "their places are free again");
        let lost = rig.service.kept.cells.sum(|row| row.dropped(Reason::Internal));
        assert_eq!(lost, 2, "each is counted by its reason");
        assert!(panics::count() >= before + 2, "and as a panic");
        drop(clients);
        until("the others have ended", || open() == 0).await;
        assert_eq!(rig.service.kept.cells.sum(|row| row.dropped(Reason::Internal)), 2);
    })
    .await;
}

#[tokio::test]
async fn accepting_that_ends_by_a_panic_is_missed_and_accepting_that_is_taken_back_is_not() {
    rig::local(async {
        let rig = Rig::new(&[], |_| {});
        let beats = rig.worker.crew.beats.clone();
        let silent = || beats.judge(clock::now(), limits::STUCK);
        let serve: Rc<dyn Fn(Accepted)> = Rc::new(|_| panic!("a mistake"));
        let mut listeners = Listeners { worker: rig.worker.clone(), serve, open: HashMap::new() };
        let anywhere = Listen::parse("127.0.0.1:0").unwrap();
        let mut open = || {
            let sockets = sys::listen(anywhere, 1, sys::Claim::Exclusive).unwrap();
            let address = sockets[0].local_addr().unwrap();
            let listen = Listen::parse(&address.to_string()).unwrap();
            listeners.open(listen, rig.service_id(), sockets.into_iter().map(Listener::own).collect());
            (listen, address)
        };
        let (released, _) = open();
        let (_, address) = open();
        tokio::task::yield_now().await;
        assert_eq!(silent(), []);
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        until("it is missed", || !silent().is_empty()).await;
        listeners.release(released);
        tokio::task::yield_now().await;
        let who: Vec<(String, bool)> =
            silent().into_iter().map(|silent| (silent.who, silent.since.is_none())).collect();
        assert_eq!(who, [(format!("accepting at {address} by worker 0"), true)]);
    })
    .await;
}
