//! The file that `deploy/debian/build.sh` makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;

use super::common::skip;

/// A package of the binary under test with a version above that of the tree's by `suffix`, built once.
#[track_caller]
pub fn package(suffix: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    BUILT.lock().entry(suffix.to_owned()).or_insert_with(|| build(suffix, "packages", "none")).clone()
}

#[track_caller]
fn build(suffix: &str, folder: &str, compression: &str) -> PathBuf {
    let version = format!("{}{suffix}", env!("CARGO_PKG_VERSION"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let output = Command::new("deploy/debian/build.sh")
        .args(["--binary", env!("CARGO_BIN_EXE_strata"), "--version", &version, "--compression", compression, "--out"])
        .arg(out)
        .output()
        .expect("build.sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "build.sh: {said}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn can_build(what: &str) -> bool {
    let there = Command::new("dpkg-shlibdeps").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        skip(what, "dpkg-shlibdeps is missing (apt-get install dpkg-dev binutils)");
    }
    there
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_package_has_what_debian_expects_and_nothing_of_the_builder() {
    if !can_build("what the Debian package holds") {
        return;
    }
    let package = package("");
    let package = package.to_str().expect("a path that is text");
    let listed = said("dpkg-deb", &["--contents", package]);
    for line in listed.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[1], "root/root", "{line}");
        assert!(!fields[0].contains('s') && fields[0].as_bytes()[8] != b'w', "{line}");
        assert!(
            fields[0].starts_with('d') || fields[0].starts_with("-rw-r--r--") || fields[5] == "./usr/bin/strata",
            "{line}"
        );
    }
    let files: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    for wanted in [
        "./etc/strata/strata.toml",
        "./etc/logrotate.d/strata",
        "./usr/bin/strata",
        "./usr/lib/systemd/system/strata.service",
        "./usr/lib/systemd/system/strata@.service",
        "./usr/lib/sysusers.d/strata.conf",
        "./usr/share/man/man1/strata.1.gz",
        "./usr/share/man/man5/strata.toml.5.gz",
        "./usr/share/bash-completion/completions/strata",
        "./usr/share/zsh/vendor-completions/_strata",
        "./usr/share/fish/vendor_completions.d/strata.fish",
        "./usr/share/strata/systemd/packets.conf",
        "./usr/share/strata/systemd/af-xdp.conf",
        "./usr/share/doc/strata/copyright",
        "./usr/share/doc/strata/changelog.gz",
        "./usr/share/doc/strata/examples/strata.toml",
        "./usr/share/doc/strata/docs/dashboard.png",
        "./usr/share/doc/strata/docs/openapi.json",
    ] {
        assert!(files.contains(&wanted), "no {wanted} in\n{listed}");
    }
    // Links of the first page lead to the others.
    let readme =
        said("sh", &["-c", "dpkg-deb --fsys-tarfile \"$0\" | tar -xO ./usr/share/doc/strata/README.md", package]);
    let links: Vec<&str> = readme.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).collect();
    assert!(links.len() > 20, "{links:?}");
    for link in links.iter().filter(|link| !link.contains("://")) {
        assert!(files.contains(&&*format!("./usr/share/doc/strata/{link}")), "README.md: no {link} in\n{listed}");
    }
    // What is not below these is no business of a package.
    let place = |file: &&str| *file == "./" || ["./etc/", "./usr/"].iter().any(|root| file.starts_with(root));
    assert_eq!(files.iter().find(|file| !place(file)), None);
    assert_eq!(said("dpkg-deb", &["--field", package, "Version"]).trim(), env!("CARGO_PKG_VERSION"));
    let needs = said("dpkg-deb", &["--field", package, "Depends"]);
    assert!(needs.contains("libc6 (>= ") && needs.contains("systemd"), "{needs}");
    let kept = said("dpkg-deb", &["--info", package, "conffiles"]);
    assert_eq!(kept, "/etc/logrotate.d/strata\n/etc/strata/strata.toml\n");
    let fresh =
        Command::new(env!("CARGO_BIN_EXE_strata")).args(["check", "deploy/debian/strata.toml"]).output().unwrap();
    assert!(fresh.status.success(), "{}", String::from_utf8_lossy(&fresh.stderr));
}

#[test]
fn the_same_tree_and_binary_make_the_same_package() {
    if !can_build("whether the Debian package can be built again") {
        return;
    }
    let [first, second] = ["first", "second"].map(|folder| build("", folder, "none"));
    assert_ne!(first, second);
    let same = fs::read(&first).unwrap() == fs::read(&second).unwrap();
    assert!(same, "{} and {} differ", first.display(), second.display());
}

#[test]
fn the_packages_changelog_is_of_this_version() {
    let first = fs::read_to_string("deploy/debian/changelog").unwrap().lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with(&format!("strata ({})", env!("CARGO_PKG_VERSION"))), "{first}");
}

#[test]
fn lintian_finds_nothing() {
    let there = Command::new("lintian").arg("--version").output().is_ok_and(|output| output.status.success());
    let what = "what lintian says of the Debian package";
    if !there {
        // Not by `skip`: its forty megabytes of Perl are asked of nobody, `.ci/run` included, and docs/install.md says so.
        eprintln!("SKIPPED: {what}: it is not installed (apt-get install lintian)");
        return;
    }
    if !can_build(what) {
        return;
    }
    let package = package("");
    let output = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning,info", "--display-info"])
        // Compressing takes longer than all else here.
        .args(["--suppress-tags", "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball"])
        .arg(&package)
        .output()
        .expect("lintian");
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && found.trim().is_empty(), "{found}{}", String::from_utf8_lossy(&output.stderr));
}
