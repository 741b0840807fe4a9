//! Tests that look into the kernel: the audit, and epochs that pass at once against the same one by one.

mod audit;
mod epochs_at_once;
mod one_schedule;
