//! The kernel's clock: how it is led to the right time without a jump.

use std::io;

/// How the kernel's clock stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockState {
    /// How much faster it is made to run, in parts per million: the drift that was learnt.
    pub frequency_ppm: f64,
    /// What is still to be slewed, in microseconds.
    pub offset_us: i64,
    /// Does the kernel hold it for right?
    pub synchronised: bool,
}

/// Makes the clock reach a time that is `offset_us` away (at most half a second) by running faster or slower, and learn
/// its drift. `constant` is the logarithm of the loop's time, 0 to 10.
///
/// # Errors
/// The kernel refuses: we are not root, or on somebody else's machine.
pub fn slew(offset_us: i64, constant: u8) -> io::Result<ClockState> {
    // SAFETY: all fields of timex are integers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_OFFSET | libc::ADJ_STATUS | libc::ADJ_TIMECONST | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    timex.offset = offset_us.clamp(-500_000, 500_000);
    timex.constant = i64::from(constant.min(10));
    // Without STA_UNSYNC the kernel also sets the hardware's clock every eleven minutes.
    timex.status = libc::STA_PLL;
    timex.maxerror = 500_000;
    timex.esterror = offset_us.abs().min(500_000);
    adjust(&mut timex)
}

/// How it stands; changes nothing.
///
/// # Errors
/// Never on Linux.
pub fn state() -> io::Result<ClockState> {
    // SAFETY: all fields of timex are integers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    adjust(&mut timex)
}

fn adjust(timex: &mut libc::timex) -> io::Result<ClockState> {
    // SAFETY: the pointer is to a whole timex that is ours for the duration of the call.
    let result = unsafe { libc::adjtimex(std::ptr::from_mut(timex)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let nano = timex.status & libc::STA_NANO != 0;
    #[allow(clippy::cast_precision_loss)] // some ten million at most
    let frequency_ppm = timex.freq as f64 / 65_536.0;
    Ok(ClockState {
        frequency_ppm,
        offset_us: if nano { timex.offset / 1000 } else { timex.offset },
        synchronised: timex.status & libc::STA_UNSYNC == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_says_how_it_stands() {
        let state = state().unwrap();
        assert!(state.frequency_ppm.abs() <= 500.0 && state.offset_us.abs() <= 1_000_000, "{state:?}");
    }
}
