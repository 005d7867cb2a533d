//! The engine: commands, the image under test, and projects that are gone when their test is, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::common::{holds_within, skip};

/// Containers start and become healthy within this, also where the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Whether the engine can be had. One test at a time has it: worlds share a small machine.
pub fn can(what: &str) -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::new(());
    for (program, arguments) in
        [("docker", ["version", "--format={{.Server.Version}}"]), ("docker-compose", ["version", "--short"])]
    {
        let ran = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        if !ran.as_ref().is_ok_and(|output| output.status.success()) {
            let why = ran.map_or_else(|error| error.to_string(), |output| said(&output));
            skip(what, &format!("`{program}` cannot be used: {why}"));
            return None;
        }
    }
    Some(ONE.lock())
}

pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    text.concat()
}

/// Runs `docker`, which must succeed, and gives its standard output without the last line's end.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    let output = try_docker(arguments);
    assert!(output.status.success(), "docker {}: {}", arguments.join(" "), said(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub fn try_docker(arguments: &[&str]) -> Output {
    let mut docker = Command::new("docker");
    // The classic builder: CLI and engine of different ages agree on it, and it takes base images that are here.
    docker.args(arguments).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
    docker.output().expect("docker runs")
}

#[track_caller]
pub fn await_that(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "waited {PATIENCE:?} for: {what}");
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A name that nobody else has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("strata-test-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

/// An image, removed with its last holder where this process has made it.
pub struct Image {
    pub name: String,
    made: bool,
}

impl Image {
    /// The image under test.
    pub fn under_test() -> Arc<Image> {
        static MADE: Mutex<Weak<Image>> = Mutex::new(Weak::new());
        if let Ok(name) = std::env::var("STRATA_TEST_IMAGE") {
            return Arc::new(Image { name, made: false });
        }
        let mut made = MADE.lock();
        made.upgrade().unwrap_or_else(|| {
            let image = Arc::new(Image::make());
            *made = Arc::downgrade(&image);
            image
        })
    }

    /// The last stage of deploy/Dockerfile over the binary under test and the libraries that it was linked with.
    fn make() -> Image {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("image"));
        let out = folder.join("out");
        let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
        let (_, last) = dockerfile.split_once("\nFROM scratch\n").expect("the last stage begins from scratch");
        assert!(last.contains("\nCOPY --from=build /out/ /\n"), "the last stage takes the files of the first");
        let put = |from: &Path, to: &str| {
            let to = out.join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, &to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
        };
        let binary = Path::new(env!("CARGO_BIN_EXE_strata"));
        put(binary, "usr/bin/strata");
        let stripped = Command::new("strip").arg("--strip-debug").arg(out.join("usr/bin/strata")).status();
        assert!(stripped.is_ok_and(|status| status.success()), "strip");
        let libraries = Command::new("ldd").arg(binary).output().expect("ldd");
        for path in String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            put(Path::new(path), path);
        }
        for name in ["passwd", "group"] {
            put(&root().join("deploy/image").join(name), &format!("etc/{name}"));
        }
        put(&root().join("deploy/image/strata/strata.toml"), "etc/strata/strata.toml");
        let text = format!("FROM scratch\n{}", last.replace("COPY --from=build /out/ /", "COPY out/ /"));
        fs::write(folder.join("Dockerfile"), text).unwrap();
        let name = format!("{}:latest", unique("image"));
        docker(&["build", "--quiet", "--tag", &name, folder.to_str().unwrap()]);
        fs::remove_dir_all(&folder).unwrap();
        Image { name, made: true }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.made {
            try_docker(&["image", "rm", "--force", &self.name]);
        }
    }
}

/// A container that is removed with its holder.
pub struct Container(pub String);

impl Container {
    #[track_caller]
    pub fn run(arguments: &[&str]) -> Container {
        let name = unique("container");
        let mut all = vec!["run", "--detach", "--name", &name];
        // The image's own check, more often than in earnest.
        if !arguments.iter().any(|option| option.contains("-health")) {
            all.push("--health-interval=1s");
        }
        all.extend(arguments);
        docker(&all);
        Container(name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logs of {}\n{}", self.0, said(&try_docker(&["logs", "--tail", "40", &self.0])));
        }
        try_docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

/// Where a container listens, on the engine's own network.
pub fn address(container: &Container, port: u16) -> SocketAddr {
    let ip = docker(&["inspect", "--format={{.NetworkSettings.IPAddress}}", &container.0]);
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// One of `docker-compose`'s, over a copy of what the file mounts, taken down with its holder.
pub struct Project {
    name: String,
    folder: PathBuf,
    file: PathBuf,
    variables: Vec<(String, String)>,
    /// Of the engine, before there was anything of this.
    volumes: BTreeSet<String>,
    _image: Arc<Image>,
}

impl Project {
    /// Of docker-compose.yml.
    pub fn new() -> Project {
        Project::of("docker-compose.yml")
    }

    /// Of a file of the repository, with ports and addresses that nobody else has.
    pub fn of(file: &str) -> Project {
        let image = Image::under_test();
        let name = unique("world");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        // Relative paths of a file are from where it stands.
        let base = folder.join(Path::new(file).parent().unwrap_or(Path::new("")));
        for part in ["conf", "deploy", "docker-compose.yml"] {
            copy(&root().join(part), &folder.join(part));
        }
        let mut variables =
            vec![("STRATA_NET".to_owned(), free_networks()), ("STRATA_IMAGE".to_owned(), image.name.clone())];
        // A port that the engine picks.
        for port in ["STRATA_HTTP", "STRATA_TCP", "STRATA_ADMIN_PORT", "STRATA_PROMETHEUS", "STRATA_GRAFANA"] {
            variables.push((port.to_owned(), "127.0.0.1:".to_owned()));
        }
        let project = Project { name, file: folder.join(file), folder, variables, volumes: volumes(), _image: image };
        assert!(base.is_dir());
        project
    }

    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Project {
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    pub fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A file of this project's copy.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub fn try_compose(&self, arguments: &[&str]) -> Output {
        let mut compose = Command::new("docker-compose");
        compose.args(["--project-name", &self.name, "--file"]).arg(&self.file).args(arguments);
        compose.current_dir(&self.folder).envs(self.variables.iter().cloned()).stdin(Stdio::null());
        compose.output().expect("docker-compose runs")
    }

    #[track_caller]
    pub fn compose(&self, arguments: &[&str]) -> String {
        let output = self.try_compose(arguments);
        if !output.status.success() {
            panic!("docker-compose {}: {}\n{}", arguments.join(" "), said(&output), self.logs());
        }
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn logs(&self) -> String {
        said(&self.try_compose(&["logs", "--no-color", "--tail", "15"]))
    }

    /// The container of a service.
    #[track_caller]
    pub fn container(&self, service: &str) -> String {
        let id = self.compose(&["ps", "--quiet", service]).trim().to_owned();
        assert!(!id.is_empty() && !id.contains('\n'), "{service} has no container, or several: {id:?}");
        id
    }

    /// Where a published port of a service is.
    #[track_caller]
    pub fn port(&self, service: &str, port: u16) -> SocketAddr {
        let text = self.compose(&["port", service, &port.to_string()]);
        text.trim().parse().unwrap_or_else(|_| panic!("{service} publishes {port} at {text:?}"))
    }

    /// What `strata` says, called in the container of a service.
    #[track_caller]
    pub fn strata(&self, service: &str, arguments: &[&str]) -> String {
        let id = self.container(service);
        let mut all = vec!["exec", &id, "strata"];
        all.extend(arguments);
        docker(&all)
    }

    #[track_caller]
    pub fn await_healthy(&self, service: &str) {
        let id = self.container(service);
        if !holds_within(PATIENCE, || health(&id) == "healthy") {
            panic!(
                "{service} is {} after {PATIENCE:?}\n{}",
                docker(&["inspect", "--format={{json .State}}", &id]),
                self.logs()
            );
        }
    }

    /// Takes everything away, with the very command of the README, and gives what is left all the same.
    #[track_caller]
    pub fn down(&self) -> String {
        let readme = fs::read_to_string(root().join("README.md")).unwrap();
        let commands = readme.lines().filter_map(|line| line.strip_prefix("docker-compose "));
        let down: Vec<&str> = commands.filter(|words| words.contains(" down")).collect();
        let [down] = down.as_slice() else {
            panic!("README.md has no command that takes all away, or several: {down:?}")
        };
        self.compose(&down.split_whitespace().collect::<Vec<_>>());
        self.left()
    }

    fn left(&self) -> String {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let of_us = ["container", "network", "volume"].map(|what| {
            let mut list = vec![what, "ls", "--quiet", "--filter", &label];
            if what == "container" {
                list.push("--all");
            }
            docker(&list)
        });
        // What an image declares has no label of anybody.
        let volumes = volumes();
        of_us.into_iter().chain(volumes.difference(&self.volumes).cloned()).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logs of {}\n{}", self.name, self.logs());
        }
        let all = [PROFILES, &["down", "--volumes", "--timeout", "1", "--remove-orphans"]].concat();
        let output = self.try_compose(&all);
        if !output.status.success() {
            eprintln!("{} is not gone: {}", self.name, said(&output));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn volumes() -> BTreeSet<String> {
    docker(&["volume", "ls", "--quiet"]).lines().map(str::to_owned).collect()
}

/// `none` where the container has no health check.
pub fn health(id: &str) -> String {
    docker(&["inspect", "--format={{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", id])
}

/// The process of a container, as the host numbers it.
pub fn pid(id: &str) -> u32 {
    docker(&["inspect", "--format={{.State.Pid}}", id]).parse().expect("a process id")
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// First half of addresses that lead nowhere yet.
fn free_networks() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    for _ in 0..200 {
        let number = (std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Relaxed)) % 200 + 50;
        // Destinations stand there in hexadecimal, the last byte first: 10.NUMBER.
        if !routes.contains(&format!("{number:02X}0A\t")) {
            return format!("10.{number}");
        }
    }
    panic!("every network from 10.50 to 10.249 is taken");
}

const PROFILES: &[&str] =
    &["--profile", "try", "--profile", "l2", "--profile", "l3", "--profile", "l4", "--profile", "l7"];
