//! How often a tenant may ask for something.

use qmk_abi::rpc::{ErrorCode, RpcError};
use std::time::{Duration, Instant};

/// A token bucket that holds the requests of one second.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(now: Instant) -> Self {
        // More than any bucket holds.
        Bucket { tokens: f64::INFINITY, at: now }
    }

    /// Takes a token, or says when there is one.
    pub(crate) fn take(&mut self, per_second: u32, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(per_second.max(1));
        self.tokens = (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * rate).min(rate);
        self.at = now;
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / rate));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// The refusal of a request that came too early.
pub(crate) fn too_many(per_second: u32, wait: Duration) -> RpcError {
    let ms = wait.as_millis() as u64 + 1;
    let message = format!("more than {per_second} requests per second of this tenant; try again in {ms} ms");
    RpcError { retry_after_ms: Some(ms), ..RpcError::new(ErrorCode::ResourceExhausted, message) }
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use std::time::{Duration, Instant};

    #[test]
    fn a_bucket_holds_a_second_and_fills_at_its_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut bucket = Bucket::new(start);
        let mut taken = |ms| (0..).take_while(|_| bucket.take(10, at(ms)).is_ok()).count();
        assert_eq!([taken(0), taken(50), taken(250), taken(250), taken(10_000)], [10, 0, 2, 0, 10]);
        let wait = bucket.take(10, at(10_000)).unwrap_err();
        assert!(bucket.take(10, at(10_000) + wait / 2).is_err());
        assert!(bucket.take(10, at(10_000) + wait + Duration::from_micros(1)).is_ok());
    }
}
