//! Bytes as digits; `-` stands for none of them.

use anyhow::{anyhow, ensure, Result};

/// The digits of `data`.
pub fn encode(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of `word`.
pub fn decode(word: &str) -> Result<Vec<u8>> {
    let digits = if word == "-" { "" } else { word };
    ensure!(digits.len() % 2 == 0 && digits.is_ascii(), "no hex: {word}");
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| anyhow!("no hex: {word}"))
        })
        .collect()
}

/// The same of a known length.
pub fn array<const N: usize>(word: &str) -> Result<[u8; N]> {
    decode(word)?
        .try_into()
        .map_err(|_| anyhow!("not {N} bytes: {word}"))
}
