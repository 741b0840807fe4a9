//! Recording what goes into a kernel, and running it again.
//!
//! The kernel has no clock, randomness or threads of its own: what it replies follows from the device, the boot seed
//! and the calls. A [`Recorder`] stands before a kernel and logs every input together with a check of every reply;
//! [`replay`] boots another kernel, gives it the same inputs and compares. One log and its [`Digest`] thus tell a run,
//! on any machine.
//!
//! # What is the same
//! Under [`Clock::Lockstep`], everything is the same for any number of threads of the device and any host. Under
//! [`Clock::FreeRunning`] the outcomes of a shot are, but not how many shots are done after some epoch: the device
//! counts its work in steps, not by a clock, yet how it cuts shots into pieces depends on its number of threads (and,
//! where memory is short, on what the host has left). So such a log gives the same digest with the same pace and number
//! of threads, and may differ at the first epoch report or status that tells the progress otherwise.
//!
//! # What is in a log
//! A head (version, description of the machine, boot seed, quota of the root domain), then entries, each a frame of
//! postcard behind its length. An entry holds the input and two checks out of the running SHA-256 digest over all
//! inputs and replies: one up to the input, which tells damage *before* the input is carried out, and one up to the
//! reply. The checks find accidents. They are no signature: anyone can write a log that passes, and under
//! [`Clock::Lockstep`] an epoch runs all shots of a program, however many a log of unknown origin asks for.

use qmk_abi::syscall::Quota;
use qmk_abi::{Handle, KernelError, Reply, Syscall};
use qmk_kernel::hal::{Device, MachineSpec};
use qmk_kernel::{Clock, DomainId, EpochReport, Kernel};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Write};

const MAGIC: [u8; 8] = *b"QMKLOG\0\x04";
/// Longest frame: an image of the largest size takes less.
const MAX_FRAME: usize = 1 << 28;

/// SHA-256 over all inputs and replies of a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Why a log cannot be replayed, or where the replay went another way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It does not begin as a log of this version does.
    #[error("this is no log, or one of another version")]
    Foreign,
    /// It ends within its head or an entry.
    #[error("the log ends in the middle of entry {entry}")]
    Truncated {
        /// Number of the entry, from 0; 0 as well for the head.
        entry: u64,
    },
    /// A part of it has changed since it was written.
    #[error("entry {entry} of the log is damaged: {what}")]
    Corrupt {
        /// Number of the entry, from 0; 0 as well for the head.
        entry: u64,
        /// What is wrong.
        what: String,
    },
    /// It was recorded on another machine than the one it is to be replayed on.
    #[error("the log was recorded on another machine: {recorded}; this is {present}")]
    Machine {
        /// As recorded.
        recorded: String,
        /// As it is.
        present: String,
    },
    /// A reply differs from the recorded one.
    #[error("entry {entry} went another way: {input} now gives {reply}")]
    Differs {
        /// Number of the entry, from 0.
        entry: u64,
        /// The input.
        input: String,
        /// The output now.
        reply: String,
    },
}

/// An input of a kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Input {
    Call(u32, Syscall),
    Lockstep,
    FreeRunning(u64),
    Advance,
    AdvanceBy(u64),
}

/// The output of an input.
#[derive(Debug, Serialize)]
enum Output {
    Reply(Result<Reply, KernelError>),
    /// Epoch, instructions issued, strands ended, turns at the device, busy.
    Report(u64, u32, u32, u32, bool),
    /// Of a change of the clock.
    Nothing,
}

impl From<EpochReport> for Output {
    fn from(r: EpochReport) -> Self {
        Output::Report(r.epoch, r.issued, r.ended, r.turns, r.busy)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The description of the machine, as debugging output shows it.
    machine: String,
    seed: u64,
    quota: Quota,
}

#[derive(Serialize)]
struct Entry<'a> {
    input: &'a [u8],
    before: u64,
    after: u64,
}

/// The running digest.
#[derive(Clone, Debug, Default)]
struct Running(Sha256);

impl Running {
    /// Takes up some bytes; returns a check of all so far.
    fn take(&mut self, bytes: &[u8]) -> u64 {
        // Lengths keep two sequences of parts from being one sequence of bytes.
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        let [a, b, c, d, e, f, g, h, ..] = self.digest().0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn digest(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

fn describe(spec: &MachineSpec) -> String {
    format!("{spec:?}")
}

/// A kernel whose inputs are logged.
#[derive(Debug)]
pub struct Recorder<D, W> {
    kernel: Kernel<D>,
    log: W,
    digest: Running,
}

impl<D: Device, W: Write> Recorder<D, W> {
    /// Boots a kernel and begins its log. Returns the root domain and its machine capability as well, as
    /// [`Kernel::boot`] does.
    ///
    /// # Errors
    /// Those of `log`.
    pub fn boot(device: D, seed: u64, quota: Quota, mut log: W) -> io::Result<(Self, DomainId, Handle)> {
        let head = encode(&Head { machine: describe(device.spec()), seed, quota })?;
        let mut digest = Running::default();
        let check = digest.take(&head);
        log.write_all(&MAGIC)?;
        frame(&mut log, &head)?;
        log.write_all(&check.to_le_bytes())?;
        let (kernel, root, machine) = Kernel::boot(device, seed, quota);
        Ok((Recorder { kernel, log, digest }, root, machine))
    }

    /// [`Kernel::syscall`].
    ///
    /// # Errors
    /// Those of the log. Its last entry may then be incomplete, while the call was carried out.
    pub fn syscall(&mut self, caller: DomainId, call: Syscall) -> io::Result<Result<Reply, KernelError>> {
        match self.put(Input::Call(caller.0, call))? {
            Output::Reply(reply) => Ok(reply),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// [`Kernel::set_clock`].
    ///
    /// # Errors
    /// As [`Recorder::syscall`].
    pub fn set_clock(&mut self, clock: Clock) -> io::Result<()> {
        let input = match clock {
            Clock::Lockstep => Input::Lockstep,
            Clock::FreeRunning { pace } => Input::FreeRunning(pace),
        };
        self.put(input).map(drop)
    }

    /// [`Kernel::advance`].
    ///
    /// # Errors
    /// As [`Recorder::syscall`].
    pub fn advance(&mut self) -> io::Result<EpochReport> {
        self.report(Input::Advance)
    }

    /// [`Kernel::advance_by`].
    ///
    /// # Errors
    /// As [`Recorder::syscall`].
    pub fn advance_by(&mut self, most: u64) -> io::Result<EpochReport> {
        self.report(Input::AdvanceBy(most))
    }

    fn report(&mut self, input: Input) -> io::Result<EpochReport> {
        match self.put(input)? {
            Output::Report(epoch, issued, ended, turns, busy) => {
                let broken = self.kernel.broken().is_some();
                Ok(EpochReport { epoch, issued, ended, turns, busy, broken })
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The kernel, for inspection.
    pub fn kernel(&self) -> &Kernel<D> {
        &self.kernel
    }

    /// Digest of the run so far.
    pub fn digest(&self) -> Digest {
        self.digest.digest()
    }

    /// Ends the recording. Returns the kernel, the log and the digest.
    pub fn finish(self) -> (Kernel<D>, W, Digest) {
        let digest = self.digest();
        (self.kernel, self.log, digest)
    }

    fn put(&mut self, input: Input) -> io::Result<Output> {
        let bytes = encode(&input)?;
        let before = self.digest.take(&bytes);
        let output = perform(&mut self.kernel, input);
        let after = self.digest.take(&encode(&output)?);
        let entry = encode(&Entry { input: &bytes, before, after })?;
        frame(&mut self.log, &entry)?;
        Ok(output)
    }
}

fn perform<D: Device>(kernel: &mut Kernel<D>, input: Input) -> Output {
    match input {
        Input::Call(domain, call) => Output::Reply(kernel.syscall(DomainId(domain), call)),
        Input::Lockstep => {
            kernel.set_clock(Clock::Lockstep);
            Output::Nothing
        }
        Input::FreeRunning(pace) => {
            kernel.set_clock(Clock::FreeRunning { pace });
            Output::Nothing
        }
        Input::Advance => kernel.advance().into(),
        Input::AdvanceBy(most) => kernel.advance_by(most).into(),
    }
}

fn frame(log: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the input is too large for a log"));
    }
    log.write_all(&(bytes.len() as u32).to_le_bytes())?;
    log.write_all(bytes)
}

/// The rest of a log.
struct Rest<'a> {
    bytes: &'a [u8],
    entry: u64,
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ReplayError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(ReplayError::Truncated { entry: self.entry })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn frame(&mut self) -> Result<&'a [u8], ReplayError> {
        let length = self.take(4)?.iter().rev().fold(0usize, |n, &b| n << 8 | b as usize);
        if length > MAX_FRAME { self.corrupt("its length") } else { self.take(length) }
    }

    fn corrupt<T>(&self, what: &str) -> Result<T, ReplayError> {
        Err(ReplayError::Corrupt { entry: self.entry, what: what.into() })
    }
}

/// A value that takes all of the bytes.
fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// Runs a log again on a device that has done nothing yet, and compares all replies with the recorded ones.
///
/// # Errors
/// See [`ReplayError`]; the first entry that differs ends the replay.
pub fn replay<D: Device>(log: &[u8], device: D) -> Result<Digest, ReplayError> {
    let mut rest = Rest { bytes: log, entry: 0 };
    if rest.take(MAGIC.len()).ok() != Some(&MAGIC) {
        return Err(ReplayError::Foreign);
    }
    let bytes = rest.frame()?;
    let mut digest = Running::default();
    if rest.take(8)? != digest.take(bytes).to_le_bytes() {
        return rest.corrupt("its head");
    }
    let Some(head) = decode::<Head>(bytes) else { return rest.corrupt("its head") };
    let present = describe(device.spec());
    if head.machine != present {
        return Err(ReplayError::Machine { recorded: head.machine, present });
    }
    let (mut kernel, ..) = Kernel::boot(device, head.seed, head.quota);
    while !rest.bytes.is_empty() {
        let entry = rest.entry;
        let Some((bytes, before, after)) = decode::<(&[u8], u64, u64)>(rest.frame()?) else {
            return rest.corrupt("it is no entry");
        };
        if digest.take(bytes) != before {
            return rest.corrupt("its input, or an entry before it, is not what was recorded");
        }
        let Some(input) = decode::<Input>(bytes) else { return rest.corrupt("its input is none") };
        let output = perform(&mut kernel, input.clone());
        let Ok(bytes) = postcard::to_allocvec(&output) else { return rest.corrupt("its reply cannot be told") };
        if digest.take(&bytes) != after {
            return Err(ReplayError::Differs { entry, input: brief(&input), reply: brief(&output) });
        }
        rest.entry += 1;
    }
    Ok(digest.digest())
}

/// Debugging output of bounded length.
fn brief(value: &impl fmt::Debug) -> String {
    const MOST: usize = 400;
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}
