//! What the scheduler promises: deadlines, shares, bounds on waiting, windows, regions and decoding.

mod deadlines;
mod decoding;
mod device;
mod sharing;
mod waiting;
mod world;
