//! Every world of docker-compose.yml comes up from nothing, `try` says who answered, and nothing is left of it.

use super::engine::{Project, can, docker, pid, said};

/// By `docker-compose run --rm try-…`, as the README says.
fn comes_up(profile: &str, service: &str, names: &[&str]) {
    let Some(_one) = can(&format!("the world of {profile}")) else { return };
    let project = Project::new();
    let output = project.try_compose(&["run", "--rm", "-T", service]);
    let text = said(&output);
    assert!(output.status.success(), "{service}: {text}\n{}", project.logs());
    for name in names {
        assert!(text.lines().any(|line| line.split_whitespace().nth(1) == Some(name)), "{name} in {text}");
    }
    println!("{text}");
    is_hardened(&project, &format!("{profile}-strata"), matches!(profile, "l2" | "l3"));
    assert_eq!(project.down(), "", "something is left");
}

/// What the process in the container may: read from the kernel, not from what the file asks for.
fn is_hardened(project: &Project, service: &str, packets: bool) {
    let id = project.container(service);
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&id))).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let [user, capabilities, bounded] = ["Uid:", "CapEff:", "CapBnd:"].map(field);
    let capabilities = [capabilities, bounded].map(|hex| u64::from_str_radix(&hex, 16).unwrap());
    // NET_ADMIN, NET_RAW, SYS_NICE.
    let most: u64 = if packets { 1 << 12 | 1 << 13 | 1 << 23 } else { 0 };
    assert_eq!(user.split_whitespace().next(), Some(if packets { "0" } else { "65532" }), "{service}");
    assert!(capabilities.iter().all(|set| set & !most == 0), "{service} has {capabilities:x?}");
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"), "{service}");
    let read_only = docker(&[
        "inspect",
        "--format={{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}",
        &id,
    ]);
    assert_eq!(read_only, "true 268435456 256", "{service}");
}

#[test]
fn l2_comes_up_and_endpoints_answer_clients_themselves() {
    comes_up("l2", "try-l2", &["l2-1", "l2-2", "l2-3"]);
}

#[test]
fn l3_comes_up_and_replies_come_back_through_strata() {
    comes_up("l3", "try-l3", &["l3-1", "l3-2", "l3-3"]);
}

#[test]
fn l4_comes_up() {
    comes_up("l4", "try-l4", &["l4-1", "l4-2", "l4-3"]);
}

#[test]
fn l7_comes_up_and_routes_by_host_and_path() {
    comes_up("l7", "try-l7", &["web-1", "web-2", "api-1"]);
}

#[test]
fn a_try_fails_where_an_endpoint_is_missing() {
    let Some(_one) = can("a world with an endpoint that is not there") else { return };
    let project = Project::new();
    project.compose(&["run", "--rm", "-T", "try-l4"]);
    docker(&["kill", &project.container("l4-endpoint-2")]);
    let output = project.try_compose(&[
        "run",
        "--rm",
        "--no-deps",
        "-T",
        "try-l4",
        "try",
        "--wait",
        "5s",
        &format!("http://{}.4.100:8080/=>l4-1,l4-2,l4-3", project.variable("STRATA_NET")),
    ]);
    assert!(!output.status.success() && said(&output).contains("l4-2 never answered"), "{}", said(&output));
}
