//! Wiring: the process. Supervisor, workers, reload, drain and signals; the only place that knows every floor.

pub mod discovery;
pub mod edits;
pub mod explain;
pub mod imagined;
pub mod keeper;
pub mod listeners;
pub mod load;
pub mod notify;
pub mod outside;
pub mod privileges;
mod rehearse;
pub mod supervisor;
pub mod upgrade;
pub mod watch;
pub mod worker;
