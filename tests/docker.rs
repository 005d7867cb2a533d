//! Strata in containers, on the real Docker engine: the image, every world of docker-compose.yml, and what containers do to each other.
//! Needs `docker` and `docker-compose`, and says so loudly where they are missing.
//!
//! `STRATA_TEST_IMAGE=NAME` tests an image that is there (`.ci/run` builds the real one); without it one is made of the binary under
//! test and the last stage of deploy/Dockerfile. Base images that cannot be pulled have stand-ins (tests/docker/bases).

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "dashboards/asked.rs"]
mod asked;
mod common;
#[path = "docker/deaths.rs"]
mod deaths;
#[path = "docker/discovery.rs"]
mod discovery;
#[path = "docker/edits.rs"]
mod edits;
#[path = "docker/engine.rs"]
mod engine;
#[path = "dashboards/files.rs"]
#[allow(dead_code, reason = "the files that tests/dashboards.rs judges")]
mod files;
#[path = "docker/image.rs"]
mod image;
#[path = "common/load.rs"]
mod load;
#[path = "docker/losses.rs"]
mod losses;
#[path = "docker/outside.rs"]
mod outside;
#[path = "dashboards/promql.rs"]
mod promql;
#[path = "docker/proxy.rs"]
mod proxy;
#[path = "docker/watchers.rs"]
mod watchers;
#[path = "docker/worlds.rs"]
mod worlds;
