//! Tests that look into the kernel.

mod epochs_at_once;
mod one_schedule;
