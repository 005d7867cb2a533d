//! A small site in network namespaces that has a bit of everything: HTTP, a TCP proxy, frames to a VIP, full NAT, and an interface
//! that can be taken away. Strata runs on its balancer.

use std::net::{IpAddr, SocketAddr};

use super::common::{Message, Strata, Wire, await_that};
use super::node::Process;
use super::rig::{Way, prepare};
use super::server::{PORT, Server};
use super::talk::ask;
use super::world::{Family, Place, World};

pub struct Site {
    pub world: World,
    pub strata: Strata,
    /// HTTP endpoints: dropping one is its end.
    pub echoes: Vec<Process>,
    _servers: Vec<Server>,
}

/// Every service is spoken to from the far client.
const BODY: &str = "\
[cluster]
hash_key = \"4f1c2a9be0d37758a6c4e1902b7d5f63\"
[process]
max_memory = \"2GiB\"
[service.site]
mode = \"l7\"
listen = \"10.0.0.2:80\"
pool = \"web\"
[service.database]
mode = \"l4\"
listen = \"10.0.0.2:8080\"
pool = \"database\"
[vip.game]
address = \"10.0.0.100\"
interface = \"eth0\"
[service.game]
mode = \"l2\"
vip = \"game\"
pool = \"game\"
[vip.names]
address = \"10.0.0.101\"
interface = \"eth0\"
[service.names]
mode = \"l4\"
forward = \"full-nat\"
vip = \"names\"
ports = [\"8080/tcp\"]
source = \"10.0.0.3\"
pool = \"names\"
[service.listed]
mode = \"l7\"
listen = \"10.0.0.2:81\"
pool = \"listed\"
[pool.listed]
source = { type = \"file\", path = \"listed.json\" }
[pool.database]
balance = { type = \"maglev\", key = \"source-address\" }
probe = { type = \"tcp\", interval = \"300ms\", timeout = \"250ms\" }
endpoints = [\"10.0.0.41:8080\", \"10.0.0.42:8080\"]
[pool.game]
probe = { type = \"tcp\", interval = \"300ms\", timeout = \"250ms\", port = 8080 }
endpoints = [\"10.0.0.41\", \"10.0.0.42\"]
[pool.names]
probe = { type = \"tcp\", interval = \"300ms\", timeout = \"250ms\" }
endpoints = [\"10.0.0.41:8080\", \"10.0.0.42:8080\"]
";

/// The pool that loses an endpoint.
const WEB: &str = "\
[pool.web]
probe = { type = \"http\", path = \"/healthz\", interval = \"300ms\", timeout = \"250ms\", fall = 2 }
";

/// A service whose interface goes away.
const SPARE: &str = "\
[vip.spare]
address = \"10.2.0.100\"
interface = \"eth1\"
[service.spare]
mode = \"l2\"
vip = \"spare\"
pool = \"spare\"
[pool.spare]
endpoints = [\"10.2.0.41\"]
";

/// Both of the pool `web`.
pub const ECHOES: [&str; 2] = ["10.0.0.41:8081", "10.0.0.42:8081"];

impl Site {
    /// Everything is up, and every service answers.
    #[track_caller]
    pub fn new() -> Site {
        let world = World::new(Place::Lan, ECHOES.len());
        // Of a wire on which nobody else is.
        world.balancer.ip(&format!("link add eth1 type veth peer name spare netns {}", world.near.name));
        world.balancer.batch("address add 10.2.0.1/24 dev eth1\nlink set eth1 up\n");
        world.near.batch("link set spare up\n");
        let (mut servers, mut echoes) = (Vec::new(), Vec::new());
        for (index, host) in world.endpoints.iter().enumerate() {
            assert!(prepare(Way::L2, Place::Lan, host).is_none(), "l2 needs no process on endpoints");
            let addresses = [Family::V4.endpoint(Place::Lan, index), vip()];
            servers.push(Server::start(host, &addresses, &World::name(index)));
            echoes.push(host.spawn(&["echo", "--listen", ECHOES[index], "--name", &World::name(index)]));
        }
        let strata = world.balancer.enter(|| Strata::start_in(&body(&ECHOES, true), list));
        let site = Site { world, strata, echoes, _servers: servers };
        await_that("every service answers", || site.talks().is_ok());
        site
    }

    /// One request or connection to each service that is not taken away.
    pub fn talks(&self) -> Result<(), String> {
        let client = &self.world.client;
        let status = self.request().map(|answer| answer.status());
        if status != Some(200) {
            return Err(format!("the site answers {status:?}"));
        }
        for to in [vip(), "10.0.0.101".parse().expect("an address"), Family::V4.balancer()] {
            assert_eq!(PORT, 8080, "the services above");
            ask(client, to, 100, 1000).map_err(|error| format!("{to}: {error}"))?;
        }
        Ok(())
    }

    /// `None` where nobody answers.
    fn request(&self) -> Option<Message> {
        let to = SocketAddr::new(Family::V4.balancer(), 80);
        let stream = self.world.client.enter(|| std::net::TcpStream::connect(to)).ok()?;
        let mut wire = Wire::new(stream, None);
        wire.send("GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n");
        wire.response().ok()
    }

    /// Another file, and what `strata reload` says of it.
    pub fn reload(&self, body: &str) -> bool {
        self.strata.rewrite(body);
        let admin = self.strata.admin.to_string();
        self.world.balancer.strata(&["reload", "--admin", &admin]).status.success()
    }
}

/// What the source of a pool finds.
fn list(folder: &std::path::Path) {
    std::fs::write(folder.join("listed.json"), format!("[\"{}\"]", ECHOES[0])).expect("a file of endpoints");
}

/// A file with these endpoints in the pool `web`, with the service whose interface goes away or without.
pub fn body(web: &[&str], spare: bool) -> String {
    let list: Vec<String> = web.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let spare = if spare { SPARE } else { "" };
    format!("{BODY}{WEB}endpoints = [{}]\n{spare}", list.join(", "))
}

fn vip() -> IpAddr {
    Family::V4.vip()
}
