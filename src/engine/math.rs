//! Elementwise kernels over slices: written plainly, compiled for the CPU's vector units, chosen when they run.
//!
//! `exp` and `ln` are polynomial approximations (the Cephes library's `expf` and `logf`, relative error about
//! 1e-7), because the standard ones do not vectorise.

use multiversion::multiversion;

/// Probabilities are raised to this before a logarithm.
pub const CLIP: f32 = 1e-7;

#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to the nearest whole number
    let x = x.clamp(-87.0, 88.0);
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let y = p * r * r + r + 1.0;
    let exponent = t.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(exponent)
}

/// For normal, positive numbers.
#[inline(always)]
fn ln(x: f32) -> f32 {
    // x = m · 2ᵉ with m in [√½, √2)
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let e = ((bits as i32) >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let z = m * m;
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333e-1;
    let y = p * m * z + e * -2.121_944_4e-4 - 0.5 * z;
    m + y + e * 0.693_359_4
}

/// −p ln p, 0 at p = 0.
#[inline(always)]
fn plogp(p: f32) -> f32 {
    -p * ln(p.max(1e-30))
}

/// Whether there is neither NaN nor infinity.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn all_finite(v: &[f32]) -> bool {
    let mut worst = 0u32;
    for x in v {
        worst = worst.max(x.to_bits() & 0x7fff_ffff);
    }
    worst < 0x7f80_0000
}

/// to = f(from). What `f` captures it must own, so that the compiler knows that writing to `to` does not change it.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn map<S, D>(from: &[S], to: &mut [D], f: impl Fn(&S) -> D) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f(from);
    }
}

/// sum = weight · v
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn set(sum: &mut [f32], v: &[f32], weight: f32) {
    for (s, v) in sum.iter_mut().zip(v) {
        *s = weight * v;
    }
}

/// sum += weight · v
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn add(sum: &mut [f32], v: &[f32], weight: f32) {
    for (s, v) in sum.iter_mut().zip(v) {
        *s += weight * v;
    }
}

/// sum += weight · v²
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn add_square(sum: &mut [f32], v: &[f32], weight: f32) {
    for (s, v) in sum.iter_mut().zip(v) {
        *s += weight * v * v;
    }
}

/// sum += weight · (−p ln p)
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn add_entropy(sum: &mut [f32], p: &[f32], weight: f32) {
    for (s, p) in sum.iter_mut().zip(p) {
        *s += weight * plogp(*p);
    }
}

/// sum += weight · (−p ln p − (1−p) ln (1−p))
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn add_binary_entropy(sum: &mut [f32], p: &[f32], weight: f32) {
    for (s, p) in sum.iter_mut().zip(p) {
        *s += weight * (plogp(*p) + plogp(1.0 - p));
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
pub fn divide(v: &mut [f32], by: f32) {
    for v in v {
        *v /= by;
    }
}

/// v = 1 − v
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn complement(v: &mut [f32]) {
    for v in v {
        *v = 1.0 - *v;
    }
}

/// v = 1 / (1 + e⁻ᵛ)
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn sigmoid(v: &mut [f32]) {
    for v in v {
        *v = 1.0 / (1.0 + exp(-*v));
    }
}

/// p = ln p − ln(1 − p), both clipped
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn logit(p: &mut [f32]) {
    for p in p {
        *p = ln(p.max(CLIP)) - ln((1.0 - *p).max(CLIP));
    }
}

/// p = ln p, clipped
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn log(p: &mut [f32]) {
    for p in p {
        *p = ln(p.max(CLIP));
    }
}

/// p = 1/p, p clipped
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn inverse(p: &mut [f32]) {
    for p in p {
        *p = 1.0 / p.max(CLIP);
    }
}

/// p = √p
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn root(p: &mut [f32]) {
    for p in p {
        *p = p.sqrt();
    }
}

/// v = eᵛ
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn exponential(v: &mut [f32]) {
    for v in v {
        *v = exp(*v);
    }
}

/// Softmax over channels: `v` is `channels × n`, one plane after the other; `scratch` is resized to 2 n.
pub fn softmax(v: &mut [f32], channels: usize, scratch: &mut Vec<f32>) {
    let n = v.len() / channels;
    scratch.clear();
    scratch.resize(2 * n, 0.0);
    let (most, sum) = scratch.split_at_mut(n);
    most.copy_from_slice(&v[..n]);
    for plane in v.chunks_exact(n).skip(1) {
        maximum(most, plane);
    }
    for plane in v.chunks_exact_mut(n) {
        exp_shifted(plane, most, sum);
    }
    for plane in v.chunks_exact_mut(n) {
        quotient(plane, sum);
    }
}

/// most = the larger of both
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn maximum(most: &mut [f32], v: &[f32]) {
    for (m, v) in most.iter_mut().zip(v) {
        *m = if *v > *m { *v } else { *m };
    }
}

/// least = the smaller of both
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn minimum(least: &mut [f32], v: &[f32]) {
    for (m, v) in least.iter_mut().zip(v) {
        *m = if *v < *m { *v } else { *m };
    }
}

/// v = v · by
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn multiply(v: &mut [f32], by: f32) {
    for v in v {
        *v *= by;
    }
}

/// v = v − by
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn subtract(v: &mut [f32], by: &[f32]) {
    for (v, by) in v.iter_mut().zip(by) {
        *v -= by;
    }
}

/// How many numbers are at least `from` and below `to`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn count_between(v: &[f32], from: f32, to: f32) -> usize {
    // In 32 bits, so that as many numbers are counted at a time as are compared.
    v.chunks(1 << 20).map(|v| v.iter().map(|v| u32::from(*v >= from && *v < to)).sum::<u32>() as usize).sum()
}

/// Keeps the two largest of all that was given.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn keep_two(best: &mut [f32], second: &mut [f32], v: &[f32]) {
    for ((b, s), v) in best.iter_mut().zip(second).zip(v) {
        let lower = if *v > *b { *b } else { *v };
        *b = if *v > *b { *v } else { *b };
        *s = if lower > *s { lower } else { *s };
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn exp_shifted(v: &mut [f32], shift: &[f32], sum: &mut [f32]) {
    for ((v, m), s) in v.iter_mut().zip(shift).zip(sum) {
        *v = exp(*v - m);
        *s += *v;
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn quotient(v: &mut [f32], by: &[f32]) {
    for (v, by) in v.iter_mut().zip(by) {
        *v /= by;
    }
}

/// Takes the larger score: where `v` > `best`, `best = v` and `label = class`. Ties stay with the earlier class.
#[multiversion(targets("x86_64+avx2+fma"))]
fn keep_best(best: &mut [f32], label: &mut [u16], v: &[f32], class: u16) {
    for ((b, l), v) in best.iter_mut().zip(label).zip(v) {
        let wins = *v > *b;
        *b = if wins { *v } else { *b };
        *l = if wins { class } else { *l };
    }
}

/// Writes the class with the largest score of each pixel, the first of equals: `scores` is `channels × n`, one plane after the
/// other, and its first plane becomes the largest scores.
pub fn best(scores: &mut [f32], n: usize, labels: &mut Vec<u16>) {
    labels.clear();
    labels.resize(n, 0);
    let (best, others) = scores.split_at_mut(n);
    for (k, plane) in others.chunks_exact(n).enumerate() {
        keep_best(best, labels, plane, k as u16 + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn functions_agree_with_the_standard_ones(x in -80f32..80.0, p in 0f32..=1.0) {
            let mut v = [x];
            exponential(&mut v);
            prop_assert!((v[0] as f64 / (x as f64).exp() - 1.0).abs() < 3e-7, "exp {x}");
            let mut v = [x];
            sigmoid(&mut v);
            prop_assert!((v[0] as f64 - 1.0 / (1.0 + (-x as f64).exp())).abs() < 2e-7, "sigmoid {x}");
            let clipped = |p: f32| (p.max(CLIP) as f64).ln();
            let mut v = [p];
            log(&mut v);
            prop_assert!((v[0] as f64 - clipped(p)).abs() < 2e-6, "ln {p}");
            let mut v = [p];
            logit(&mut v);
            prop_assert!((v[0] as f64 - (clipped(p) - clipped(1.0 - p))).abs() < 3e-6, "logit {p}");
            let mut v = [0.0];
            add_binary_entropy(&mut v, &[p], 1.0);
            let q = p as f64;
            let h = |q: f64| if q == 0.0 { 0.0 } else { -q * q.ln() };
            prop_assert!((v[0] as f64 - h(q) - h(1.0 - q)).abs() < 1e-6, "entropy {p}");
        }

        #[test]
        fn softmax_sums_to_one_and_agrees(z in prop::collection::vec(-30f32..30.0, 12)) {
            let mut v = z.clone();
            softmax(&mut v, 4, &mut Vec::new());
            for i in 0..3 {
                let z: Vec<f64> = (0..4).map(|c| z[c * 3 + i] as f64).collect();
                let sum: f64 = z.iter().map(|z| z.exp()).sum();
                for c in 0..4 {
                    prop_assert!((v[c * 3 + i] as f64 - z[c].exp() / sum).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn one_bad_number_among_many_is_seen() {
        let mut v = vec![f32::MAX; 100];
        assert!(all_finite(&v));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            v[63] = bad;
            assert!(!all_finite(&v));
        }
    }
}
