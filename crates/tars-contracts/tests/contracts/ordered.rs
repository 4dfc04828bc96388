//! JSON values compared as the wire sees them: key order counts, numbers count as numbers.

use serde_json::Value;

/// Parses what must be JSON, keys in order and floats exact.
pub(crate) fn json(bytes: impl AsRef<[u8]>) -> Value {
    simd_json::serde::from_slice(&mut bytes.as_ref().to_vec()).unwrap()
}

/// Panics where the two differ; `Value`'s own `==` is blind to the order of keys.
#[track_caller]
pub(crate) fn assert_same(left: &Value, right: &Value) {
    assert!(same(left, right), "\n left: {left}\nright: {right}");
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|((lk, lv), (rk, rv))| lk == rk && same(lv, rv))
        }
        (Value::Array(l), Value::Array(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r)),
        (Value::Number(l), Value::Number(r)) => l == r || l.as_f64() == r.as_f64(),
        _ => left == right,
    }
}
