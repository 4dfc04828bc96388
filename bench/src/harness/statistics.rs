//! Medians, spreads, and a bound on a mean.

/// The value at this fraction of the sorted values; 0 of none.
pub(super) fn quantile(values: &[f64], fraction: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    sorted[(fraction * last as f64).round() as usize]
}

/// The middle value; of an even number the mean of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Below which the mean of the ratios lies with a chance of one in twenty: Student's t on their
/// logarithms.
pub(super) fn lower_bound(ratios: &[f64]) -> f64 {
    const T: [f64; 10] = [6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812];
    let n = ratios.len();
    if n < 2 {
        return 0.0;
    }
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logs.iter().sum::<f64>() / n as f64;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let t = T.get(n - 2).copied().unwrap_or(1.7);
    (mean - t * (variance / n as f64).sqrt()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.0), 1.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0), 5.0);
    }

    #[test]
    fn the_bound_is_below_the_mean_and_near_it_without_spread() {
        assert!((lower_bound(&[1.1; 5]) - 1.1).abs() < 1e-9);
        let bound = lower_bound(&[0.9, 1.0, 1.1, 1.2, 1.3]);
        assert!((0.9..1.1).contains(&bound), "{bound}");
    }
}
