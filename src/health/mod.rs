//! Engine: what we believe of an endpoint. Two enums, never booleans: what the operator wants and what we see.

/// What the operator wants of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Intent {
    #[default]
    Ready,
    /// No new work; what is open finishes.
    Draining,
    /// Out, and not probed.
    Maintenance,
}

/// What we see of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Health {
    /// Probed, but no answer is known yet.
    #[default]
    Probing,
    Up,
    Down,
    /// Taken out by passive detection, for a time.
    Ejected,
}

impl Intent {
    pub const ALL: [Intent; 3] = [Intent::Ready, Intent::Draining, Intent::Maintenance];

    pub const fn word(self) -> &'static str {
        match self {
            Intent::Ready => "ready",
            Intent::Draining => "draining",
            Intent::Maintenance => "maintenance",
        }
    }
}

impl Health {
    pub const ALL: [Health; 4] = [Health::Probing, Health::Up, Health::Down, Health::Ejected];

    pub const fn word(self) -> &'static str {
        match self {
            Health::Probing => "probing",
            Health::Up => "up",
            Health::Down => "down",
            Health::Ejected => "ejected",
        }
    }
}
