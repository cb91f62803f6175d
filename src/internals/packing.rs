//! The placement of blocks in one arena, and blocks that are hard to place.

pub use crate::plan::arena::{Lifetime, PLAN_WORK, Placement, place_within};

use crate::plan::arena::search::Noise;

/// Cuts a full rectangle of `4 * count` steps by 2048 units of `unit` bytes into `count` blocks, so that a perfect packing
/// exists. A block is cut in two, or with `pinwheels` also into five pieces that no straight cut separates. MiniMalloc was
/// published with instances of this kind.
pub fn cut_up(count: usize, seed: u64, unit: u64, pinwheels: bool) -> Vec<Lifetime> {
    let mut noise = Noise((seed << 40) + 1);
    let mut pick = |below: u64| (noise.next() * below as f64) as u64;
    let lifetime = |start, end, size| Lifetime { start, end, size };
    let mut blocks = vec![lifetime(0, 4 * count as u32, 2048 * unit)];
    while blocks.len() < count {
        let area = |&at: &usize| u64::from(blocks[at].end - blocks[at].start) * blocks[at].size;
        let tries = [(); 4].map(|()| pick(blocks.len() as u64) as usize);
        let cut = tries.into_iter().max_by_key(area).unwrap_or(0);
        let Lifetime { start, end, size } = blocks[cut];
        let (steps, units) = (u64::from(end - start), size / unit);
        match pick(if pinwheels { 3 } else { 2 }) {
            0 if steps > 1 => {
                let middle = start + 1 + pick(steps - 1) as u32;
                blocks[cut].end = middle;
                blocks.push(lifetime(middle, end, size));
            }
            1 if units > 1 => {
                blocks[cut].size = (1 + pick(units - 1)) * unit;
                blocks.push(lifetime(start, end, size - blocks[cut].size));
            }
            2 if steps > 2 && units > 2 => {
                let left = 1 + pick(steps - 2);
                let right = left + 1 + pick(steps - left - 1);
                let (left, right) = (start + left as u32, start + right as u32);
                let low = 1 + pick(units - 2);
                let high = low + 1 + pick(units - low - 1);
                let (low, high) = (low * unit, high * unit);
                blocks[cut] = lifetime(start, right, low);
                blocks.push(lifetime(right, end, high));
                blocks.push(lifetime(left, end, size - high));
                blocks.push(lifetime(start, left, size - low));
                blocks.push(lifetime(left, right, high - low));
            }
            _ => {}
        }
    }
    blocks
}
