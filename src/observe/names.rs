//! Value: the one table of metric names.
