//! Nanoseconds of CPU per call of what is pure, in turn. CPU, not time: what else the machine does
//! shows less.

use std::hint::black_box;

use crate::clock::thread_cpu;

/// Nanoseconds for which each of a round is measured.
const SLICE: u64 = 40_000_000;

/// Something to be called again and again.
pub(super) type Call<'a> = Box<dyn FnMut() + 'a>;

/// A call whose result is not optimised away.
pub(super) fn call<'a, T>(mut call: impl FnMut() -> T + 'a) -> Call<'a> {
    Box::new(move || drop(black_box(call())))
}

/// Nanoseconds per call of each, `rounds` times in turn.
pub(super) fn nanoseconds_in_turn<const N: usize>(rounds: usize, mut calls: [Call<'_>; N]) -> [Vec<f64>; N] {
    let counts = calls.each_mut().map(calls_in_a_slice);
    let mut series = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for ((call, count), rounds) in calls.iter_mut().zip(counts).zip(&mut series) {
            let begin = thread_cpu();
            (0..count).for_each(|_| call());
            rounds.push((thread_cpu() - begin) as f64 / f64::from(count));
        }
    }
    series
}

/// Found by doubling, which warms up as well.
fn calls_in_a_slice(call: &mut Call<'_>) -> u32 {
    let mut count: u32 = 1;
    loop {
        let begin = thread_cpu();
        (0..count).for_each(|_| call());
        let took = thread_cpu() - begin;
        if took >= SLICE / 4 || count > 1 << 28 {
            return ((f64::from(count) * SLICE as f64 / took as f64) as u32).max(1);
        }
        count *= 2;
    }
}
