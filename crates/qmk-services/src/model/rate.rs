//! A rate limit.

use std::time::{Duration, Instant};

/// Time of the next conforming request, by the virtual scheduling algorithm of ITU-T I.371, with a burst of one second.
#[derive(Default)]
pub(crate) struct Rate {
    next: Option<Instant>,
}

impl Rate {
    /// Time to wait before the next request conforms; `None` if it conforms now.
    pub(crate) fn wait(&self, per_second: u32, now: Instant) -> Option<Duration> {
        let period = Duration::from_secs(1) / per_second.max(1);
        let next = self.next.unwrap_or(now).max(now);
        let early = (next - now).saturating_sub(Duration::from_secs(1) - period);
        (early > Duration::ZERO).then_some(early)
    }

    /// Counts one request.
    ///
    /// # Errors
    /// The time to wait, if the request does not conform. It is not counted then.
    pub(crate) fn charge(&mut self, per_second: u32, now: Instant) -> Result<(), Duration> {
        if let Some(early) = self.wait(per_second, now) {
            return Err(early);
        }
        self.next = Some(self.next.unwrap_or(now).max(now) + Duration::from_secs(1) / per_second.max(1));
        Ok(())
    }

    /// Whether a request now has the whole burst.
    pub(crate) fn idle(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use std::time::{Duration, Instant};

    #[test]
    fn a_rate_allows_a_burst_of_one_second_and_then_its_pace() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..5 {
            rate.charge(5, start).unwrap();
        }
        assert_eq!(rate.charge(5, start), Err(Duration::from_millis(200)));
        assert_eq!(rate.charge(5, at(150)), Err(Duration::from_millis(50)));
        assert_eq!(rate.charge(5, at(200)), Ok(()));
        assert!(rate.charge(5, at(200)).is_err());
        // Unused requests add up to one burst and no more.
        let asked = (0..100).filter(|_| rate.charge(5, at(60_000)).is_ok()).count();
        assert_eq!(asked, 5);
        // A clock that stands still, or a pace beyond its ticks, breaks nothing.
        assert!((0..1000).all(|_| rate.charge(u32::MAX, at(90_000)).is_ok()));
    }
}
