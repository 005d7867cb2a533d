//! Value: the small numbers that stand for named things at run time.
//!
//! Ids are given to names once and kept for the life of the process, so that a reload never makes an id that a
//! connection still holds mean something else.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u16);

        impl $name {
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A service: its slot in `Snapshot::services`.
    ServiceId
);
id!(
    /// A pool: its slot in `Snapshot::pools`.
    PoolId
);
id!(
    /// A virtual address: its slot in `Snapshot::vips`.
    VipId
);
id!(
    /// A worker thread: its slot in every row of metric cells. The control thread has the last slot.
    WorkerId
);
