//! Shell: the modes, each in a folder of its own. To add one: its folder and two lines here.

use std::rc::Rc;

use crate::net::Worker;
use crate::seam::Mode;

mod l4;
mod l7;
pub mod packet;

/// A mode, and how a worker starts its instance of it.
pub struct Spec {
    /// As in `mode = "NAME"`.
    pub name: &'static str,
    pub start: fn(Rc<Worker>) -> Rc<dyn Mode>,
}

pub static CATALOG: &[Spec] = &[l4::SPEC, l7::SPEC];
