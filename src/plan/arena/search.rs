//! The search for what the greedy orders miss: dives, which fill the valleys of a skyline and keep within a limit.
//!
//! Each section of time has a floor, the least offset that is left there, and each unplaced live range has a seat, the highest
//! floor of its sections. Three rules make a dive fast. A section whose lowest seat is above its floor rises to that seat, so
//! that a move is taken back at once if it leaves too little room anywhere. Time falls into islands, which no unplaced live
//! range leaves, and each island is filled by itself. Where one cannot be filled, the dive goes back to the move that cut it
//! off, past all moves in other islands.
//!
//! An example: a live range of 6 in the sections 0 to 2 is placed at offset 0, and one of 4 in the sections 1 to 3 is not
//! placed yet. Its seat is 6. If it is the only one in section 3, that section's floor rises from 0 to 6.

use std::cmp::Reverse;

use super::{Arrangement, LiveRange};

/// What a step of the search costs, besides the sections and live ranges that it looks at.
const STEP_WORK: usize = 200;
/// The number of dives after which each may take longer, in case that only a long one finds anything.
const PATIENCE: usize = 64;

/// Dives for an arrangement lower than `best`, at limits that start at `bound` and at fractions of the distance to it, until
/// one reaches `bound` or the work is spent. Work counts the sections and live ranges looked at.
pub(super) fn search(
    ranges: &[LiveRange],
    live: &[u64],
    bound: u64,
    mut best: Arrangement,
    mut work: usize,
) -> Arrangement {
    let setting_up = ranges.iter().fold(0usize, |sum, range| sum.saturating_add(STEP_WORK + range.length()));
    // A dive takes far more than it takes to set it up.
    if work / 16 < setting_up {
        return best;
    }
    let mut alive = vec![Vec::new(); live.len()];
    for (i, range) in ranges.iter().enumerate() {
        alive[range.first..=range.last].iter_mut().for_each(|section| section.push(i));
    }
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut least = bound;
    let mut round = 0;
    while best.height > least && work > setting_up {
        work -= setting_up;
        let room = best.height - 1 - least;
        let limit = least + [0, room / 4, room / 2, room / 4 * 3][round % 4];
        let order = preference(ranges, round, &mut noise);
        let mut dive = Dive::new(ranges, live, &alive, &order, limit);
        match dive.run((2 + round / PATIENCE).saturating_mul(ranges.len()), &mut work) {
            Some(arrangement) => best = arrangement,
            // Another order would try the same moves.
            None if dive.forks.is_empty() => least = limit + 1,
            None => {}
        }
        round += 1;
    }
    best
}

/// The order in which a dive tries the live ranges: long, large or broad ones first. Noise blurs the order once each order has
/// met every limit.
fn preference(ranges: &[LiveRange], round: usize, noise: &mut Noise) -> Vec<usize> {
    let blur = if round < 12 { 0.0 } else { 2.0 };
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_cached_key(|&i| {
        let (length, size) = (ranges[i].length() as f64, ranges[i].size as f64);
        let key = [length, size, length * length * size][round % 3];
        Reverse((key * (1.0 + blur * noise.next())).to_bits())
    });
    order
}

/// Xorshift generator with a fixed seed.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone, Copy)]
enum Move {
    /// Puts a live range on its seat.
    Place(usize),
    /// Leaves the room in a section up to this height empty.
    Waste(usize, u64),
}

/// A change that can be taken back, with what was there before.
#[derive(Clone, Copy)]
enum Change {
    Placed(usize),
    Floor(usize, u64),
    Seat(usize, u64),
}

/// Sections `left..=right` with unplaced live ranges, none of which leaves them.
#[derive(Clone, Copy)]
struct Island {
    left: usize,
    right: usize,
    /// The fork whose move cut the island off.
    cut_by: Option<usize>,
    /// The island to fill after this one.
    next: Option<usize>,
}

/// A choice between moves in an island, with the lengths of the dive's lists before it.
#[derive(Clone, Copy)]
struct Fork {
    island: usize,
    trail: usize,
    moves: usize,
    islands: usize,
}

/// A depth-first search for an arrangement no higher than `limit`. In a section with unplaced live ranges, its floor and what is
/// unplaced there are within the limit together.
struct Dive<'a> {
    ranges: &'a [LiveRange],
    limit: u64,
    /// By section, the live ranges that are alive in it, and those that start and end there, the most preferred last.
    alive: &'a [Vec<usize>],
    starting: Vec<Vec<usize>>,
    ending: Vec<Vec<usize>>,
    /// By section, the least offset that is left there, the size still to be placed, and the number of unplaced live ranges
    /// that are alive in the section before it, too.
    floors: Vec<u64>,
    unplaced: Vec<u64>,
    crossing: Vec<usize>,
    /// By live range, its offset once it is placed, and its seat: the highest floor of its sections, or `u64::MAX` once it is
    /// placed.
    offsets: Vec<u64>,
    seats: Vec<u64>,
    /// Sections that may have lost the lowest seat.
    unsettled: Vec<usize>,
    is_unsettled: Vec<bool>,
    trail: Vec<Change>,
    /// The moves that are left to try: those of the last fork are at the end.
    moves: Vec<Move>,
    forks: Vec<Fork>,
    islands: Vec<Island>,
}

impl<'a> Dive<'a> {
    fn new(
        ranges: &'a [LiveRange],
        live: &[u64],
        alive: &'a [Vec<usize>],
        order: &[usize],
        limit: u64,
    ) -> Self {
        let (mut starting, mut ending) = (vec![Vec::new(); live.len()], vec![Vec::new(); live.len()]);
        for &i in order.iter().rev() {
            starting[ranges[i].first].push(i);
            ending[ranges[i].last].push(i);
        }
        let crossing =
            alive.iter().zip(&starting).map(|(alive, starting)| alive.len() - starting.len()).collect();
        Dive {
            ranges,
            limit,
            alive,
            starting,
            ending,
            floors: vec![0; live.len()],
            unplaced: live.to_vec(),
            crossing,
            offsets: vec![0; ranges.len()],
            seats: vec![0; ranges.len()],
            unsettled: Vec::new(),
            is_unsettled: vec![false; live.len()],
            trail: Vec::new(),
            moves: Vec::new(),
            forks: Vec::new(),
            islands: Vec::new(),
        }
    }

    /// `None` after so many steps, or when the work is spent, or when every move was tried, which leaves no forks.
    fn run(&mut self, steps: usize, work: &mut usize) -> Option<Arrangement> {
        let mut island = self.islands_in(0, self.floors.len() - 1, None, None);
        for _ in 0..steps {
            let Some(at) = island else { return Some(self.arrangement()) };
            self.forks.push(Fork {
                island: at,
                trail: self.trail.len(),
                moves: self.moves.len(),
                islands: self.islands.len(),
            });
            self.find_moves(at, work);
            let moved = self.advance(work)?;
            let Island { left, right, next, .. } = self.islands[moved];
            island = self.islands_in(left, right, Some(self.forks.len() - 1), next);
        }
        None
    }

    /// Adds the islands within the sections `left..=right`, and returns the first that is to be filled before `next`.
    fn islands_in(
        &mut self,
        left: usize,
        right: usize,
        cut_by: Option<usize>,
        mut next: Option<usize>,
    ) -> Option<usize> {
        let mut end = right;
        for at in (left..=right).rev().filter(|&at| self.crossing[at] == 0) {
            if self.unplaced[at] > 0 {
                self.islands.push(Island { left: at, right: end, cut_by, next });
                next = Some(self.islands.len() - 1);
            }
            end = at.saturating_sub(1);
        }
        next
    }

    /// Adds the ways to fill one end of the lowest valley of an island, which is a stretch of sections at the lowest floor: a
    /// live range that fits into the valley at that end, or, as the last resort, waste up to the lower wall. It chooses the end
    /// with fewer ways.
    fn find_moves(&mut self, island: usize, work: &mut usize) {
        let Island { left: first, right: last, .. } = self.islands[island];
        let floors = &self.floors[first..=last];
        let floor = floors.iter().copied().min().unwrap_or(0);
        let left = first + floors.iter().position(|&at| at == floor).unwrap_or(0);
        let right = left + self.floors[left..=last].iter().take_while(|&&at| at == floor).count() - 1;
        let left_wall = if left > first { self.floors[left - 1] } else { u64::MAX };
        let right_wall = if right < last { self.floors[right + 1] } else { u64::MAX };
        let top = left_wall.min(right_wall);
        // A live range whose seat is the lowest floor does not leave the valley.
        let fits = |&&i: &&usize| self.seats[i] == floor;
        let wastes = |at: usize| top <= self.limit - self.unplaced[at];
        let ways = |list: &[usize], at| list.iter().filter(fits).count() + usize::from(wastes(at));
        let from_right = ways(&self.ending[right], right) < ways(&self.starting[left], left);
        let (list, at) = if from_right { (&self.ending[right], right) } else { (&self.starting[left], left) };
        *work = work.saturating_sub(STEP_WORK + floors.len() + list.len());
        self.moves.extend(wastes(at).then_some(Move::Waste(at, top)));
        self.moves.extend(list.iter().filter(fits).map(|&i| Move::Place(i)));
    }

    /// Makes the next move that keeps within the limit, and returns its island. Where none is left in an island, takes back all
    /// since the move that cut it off. `None` when no move is left or the work is spent.
    fn advance(&mut self, work: &mut usize) -> Option<usize> {
        while let (Some(&fork), 1..) = (self.forks.last(), *work) {
            self.undo(fork.trail);
            self.islands.truncate(fork.islands);
            if self.moves.len() > fork.moves {
                let next = self.moves.pop()?;
                if self.make(next, work) {
                    return Some(fork.island);
                }
            } else {
                let kept = self.islands[fork.island].cut_by.map_or(0, |cause| cause + 1);
                self.moves.truncate(self.forks[kept].moves);
                self.forks.truncate(kept);
            }
        }
        None
    }

    /// Whether all sections can still stay within the limit after the move.
    fn make(&mut self, next: Move, work: &mut usize) -> bool {
        match next {
            Move::Place(i) => {
                let LiveRange { first, last, size, .. } = self.ranges[i];
                let offset = self.seats[i];
                (self.offsets[i], self.seats[i]) = (offset, u64::MAX);
                self.trail.push(Change::Placed(i));
                self.unplaced[first..=last].iter_mut().for_each(|unplaced| *unplaced -= size);
                self.crossing[first + 1..=last].iter_mut().for_each(|crossing| *crossing -= 1);
                (first..=last).for_each(|at| self.raise(at, offset + size, work));
            }
            Move::Waste(at, top) => self.raise(at, top, work),
        }
        let mut within = true;
        while let Some(at) = self.unsettled.pop() {
            self.is_unsettled[at] = false;
            within = within && self.settle(at, work);
        }
        within
    }

    /// Raises the floor of a section, and the seats below it.
    fn raise(&mut self, at: usize, top: u64, work: &mut usize) {
        self.trail.push(Change::Floor(at, self.floors[at]));
        self.floors[at] = top;
        self.unsettle(at);
        let alive = &self.alive[at];
        *work = work.saturating_sub(alive.len());
        for &i in alive {
            let seat = self.seats[i];
            if seat < top {
                self.trail.push(Change::Seat(i, seat));
                self.seats[i] = top;
                let LiveRange { first, last, .. } = self.ranges[i];
                *work = work.saturating_sub(last - first);
                for at in first..=last {
                    if self.floors[at] == seat {
                        self.unsettle(at);
                    }
                }
            }
        }
    }

    fn unsettle(&mut self, at: usize) {
        if !self.is_unsettled[at] {
            self.is_unsettled[at] = true;
            self.unsettled.push(at);
        }
    }

    /// Raises the floor of a section to its lowest seat. Returns whether that leaves enough room.
    fn settle(&mut self, at: usize, work: &mut usize) -> bool {
        let mut lowest = u64::MAX;
        for &i in &self.alive[at] {
            *work = work.saturating_sub(1);
            lowest = lowest.min(self.seats[i]);
            if lowest == self.floors[at] {
                return true;
            }
        }
        // No seat is left in a section whose live ranges are all placed.
        if lowest == u64::MAX {
            return true;
        }
        let within = lowest <= self.limit - self.unplaced[at];
        if within {
            self.raise(at, lowest, work);
        }
        within
    }

    /// Takes back all changes after the first `kept`.
    fn undo(&mut self, kept: usize) {
        for change in self.trail.drain(kept..).rev() {
            match change {
                Change::Floor(at, floor) => self.floors[at] = floor,
                Change::Seat(i, seat) => self.seats[i] = seat,
                Change::Placed(i) => {
                    let LiveRange { first, last, size, .. } = self.ranges[i];
                    self.seats[i] = self.offsets[i];
                    self.unplaced[first..=last].iter_mut().for_each(|unplaced| *unplaced += size);
                    self.crossing[first + 1..=last].iter_mut().for_each(|crossing| *crossing += 1);
                }
            }
        }
    }

    fn arrangement(&self) -> Arrangement {
        let tops = self.offsets.iter().zip(self.ranges).map(|(offset, range)| offset + range.size);
        Arrangement { height: tops.max().unwrap_or(0), offsets: self.offsets.clone() }
    }
}
