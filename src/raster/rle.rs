//! Run-length rows, as contests (Tianchi, Kaggle) have masks of one class: `name<TAB>start length start length …`.
//!
//! Pixels are counted from 1, column by column from the left, each from top to bottom. A mask without a pixel of the class is an empty text.
//! Rows have no header.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::num::ParseIntError;

use thiserror::Error;

/// What is wrong with rows.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0:?} cannot be the name of a row; names have at least one character, and neither tabs nor line breaks")]
    Name(String),
    /// Rows count from 1.
    #[error("row {row}{}: {problem}", in_words(name))]
    Row { row: u64, name: String, problem: String },
}

fn in_words(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" ({name})") }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Pixels that follow each other, column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// From 1.
    pub start: u64,
    pub length: u64,
}

/// A mask of one class as runs, in ascending order and without overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runs(pub Vec<Run>);

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, run) in self.0.iter().enumerate() {
            write!(f, "{}{} {}", if k > 0 { " " } else { "" }, run.start, run.length)?;
        }
        Ok(())
    }
}

impl Runs {
    /// Reads `start length start length …`.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut runs: Vec<Run> = Vec::new();
        let mut numbers = text.split_ascii_whitespace().enumerate();
        let number = |(k, word): (usize, &str)| -> std::result::Result<u64, String> {
            let wrong = |e: ParseIntError| match e.kind() {
                std::num::IntErrorKind::PosOverflow => format!("number {}, {word}, is too large", k + 1),
                _ => format!(
                    "number {} is `{word}`; use whole numbers, start and length by turns, in rows without a header",
                    k + 1
                ),
            };
            match word.parse::<u64>().map_err(wrong)? {
                0 => Err(format!("number {} is 0; pixels count from 1, and a run has at least one", k + 1)),
                number => Ok(number),
            }
        };
        while let Some(first) = numbers.next() {
            let start = number(first)?;
            let Some(second) = numbers.next() else {
                let count = first.0 + 1;
                return Err(format!(
                    "has {count} numbers, the last without its length; start and length come by turns"
                ));
            };
            let length = number(second)?;
            let place = runs.len() + 1;
            if start.checked_add(length).is_none() {
                return Err(format!("run {place} ({start} {length}) is too long"));
            }
            match runs.last() {
                Some(last) if start < last.start => {
                    return Err(format!(
                        "run {place} begins at {start}, before run {} at {}; runs come in ascending order",
                        place - 1,
                        last.start
                    ));
                }
                Some(last) if start < last.start + last.length => {
                    return Err(format!(
                        "run {place} begins at {start}, within run {} ({} {}); runs do not overlap",
                        place - 1,
                        last.start,
                        last.length
                    ));
                }
                _ => runs.push(Run { start, length }),
            }
        }
        Ok(Runs(runs))
    }
}

/// Runs of a mask whose rows come from top to bottom. Held are the runs of each column, not its pixels.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// For each column, the rows where runs begin and end, by turns.
    columns: Vec<Vec<u32>>,
    rows: u32,
}

impl Encoder {
    pub fn new(width: usize) -> Self {
        Encoder { columns: vec![Vec::new(); width], rows: 0 }
    }

    /// The next row: for each pixel whether it is of the class.
    pub fn push(&mut self, row: impl IntoIterator<Item = bool>) {
        for (column, inside) in self.columns.iter_mut().zip(row) {
            if inside == column.len().is_multiple_of(2) {
                column.push(self.rows);
            }
        }
        self.rows += 1;
    }

    /// The runs. One that reaches the end of its column goes on where the next column begins.
    pub fn finish(self) -> Runs {
        let height = u64::from(self.rows);
        let mut runs: Vec<Run> = Vec::new();
        for (x, column) in self.columns.into_iter().enumerate() {
            for ends in column.chunks(2) {
                let end = ends.get(1).copied().unwrap_or(self.rows);
                let (start, length) = (x as u64 * height + u64::from(ends[0]) + 1, u64::from(end - ends[0]));
                match runs.last_mut() {
                    Some(last) if last.start + last.length == start => last.length += length,
                    _ => runs.push(Run { start, length }),
                }
            }
        }
        Runs(runs)
    }
}

/// Writes rows.
pub struct Writer<W: Write>(W);

impl<W: Write> Writer<W> {
    pub fn new(to: W) -> Self {
        Writer(to)
    }

    /// Adds the row of one mask: `width` × `height` labels, row by row, of which those equal to `class` count.
    ///
    /// # Errors
    /// A name that no row can have, labels that are not as many as said, and what the disk says.
    pub fn append<L: Copy + PartialEq>(
        &mut self,
        name: &str,
        width: usize,
        height: usize,
        labels: &[L],
        class: L,
    ) -> Result<()> {
        if labels.len() != width * height || labels.is_empty() {
            let problem = format!("{} labels are no mask of {width}x{height} pixels", labels.len());
            return Err(Error::Io(io::Error::new(io::ErrorKind::InvalidInput, problem)));
        }
        let mut encoder = Encoder::new(width);
        labels.chunks_exact(width).for_each(|row| encoder.push(row.iter().map(|label| *label == class)));
        self.append_runs(name, &encoder.finish())
    }

    /// The same for runs that are known.
    ///
    /// # Errors
    /// A name that no row can have, and what the disk says.
    pub fn append_runs(&mut self, name: &str, runs: &Runs) -> Result<()> {
        if name.is_empty() || name.contains(['\t', '\n', '\r']) {
            return Err(Error::Name(name.into()));
        }
        Ok(writeln!(self.0, "{name}\t{runs}")?)
    }

    /// Hands back what is written to; nothing is held here.
    pub fn into_inner(self) -> W {
        self.0
    }
}

/// A row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// From 1.
    pub number: u64,
    pub name: String,
    pub runs: Runs,
}

impl Row {
    /// The mask, row by row.
    ///
    /// # Errors
    /// Runs that do not fit into `width` × `height` pixels.
    pub fn mask(&self, width: usize, height: usize) -> Result<Vec<bool>> {
        self.check(width, height)?;
        let mut mask = vec![false; width * height];
        for run in &self.runs.0 {
            for pixel in run.start - 1..run.start - 1 + run.length {
                let (x, y) = (pixel as usize / height, pixel as usize % height);
                mask[y * width + x] = true;
            }
        }
        Ok(mask)
    }

    /// # Errors
    /// Runs that do not fit into `width` × `height` pixels.
    pub fn check(&self, width: usize, height: usize) -> Result<()> {
        let pixels = width as u64 * height as u64;
        let Some(k) = self.runs.0.iter().position(|run| run.start + run.length - 1 > pixels) else { return Ok(()) };
        let run = self.runs.0[k];
        Err(self.wrong(format!(
            "run {} ({} {}) ends at pixel {}, and {width}x{height} have {pixels}; is the size right?",
            k + 1,
            run.start,
            run.length,
            run.start + run.length - 1
        )))
    }

    pub fn wrong(&self, problem: String) -> Error {
        Error::Row { row: self.number, name: self.name.clone(), problem }
    }
}

/// Reads rows, one by one. Lines may end as on Windows, and empty lines at the end do not count.
pub struct Reader<R: BufRead> {
    from: R,
    number: u64,
}

impl<R: BufRead> Reader<R> {
    pub fn new(from: R) -> Self {
        Reader { from, number: 0 }
    }

    /// The next line without its end; `None` after the last.
    fn line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        if self.from.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line.into())),
            Err(_) => Err(self.wrong("", "is no text in UTF-8".into())),
        }
    }

    fn wrong(&self, name: &str, problem: String) -> Error {
        Error::Row { row: self.number, name: name.into(), problem }
    }

    fn row(&mut self) -> Result<Option<Row>> {
        let Some(line) = self.line()? else { return Ok(None) };
        if line.is_empty() {
            let number = self.number;
            while let Some(line) = self.line()? {
                if !line.is_empty() {
                    let problem = "is empty, and others follow; an empty mask is a name, a tab and nothing".into();
                    return Err(Error::Row { row: number, name: String::new(), problem });
                }
            }
            return Ok(None);
        }
        let Some((name, text)) = line.split_once('\t') else {
            return Err(self.wrong("", "has no tab between name and runs".into()));
        };
        if name.is_empty() {
            return Err(self.wrong("", "has no name before its tab".into()));
        }
        let runs = Runs::parse(text).map_err(|problem| self.wrong(name, problem))?;
        Ok(Some(Row { number: self.number, name: name.into(), runs }))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &str) -> Result<Vec<Row>> {
        Reader::new(text.as_bytes()).collect()
    }

    fn written(name: &str, width: usize, height: usize, labels: &[u8]) -> String {
        let mut writer = Writer::new(Vec::new());
        writer.append(name, width, height, labels, 1).unwrap();
        String::from_utf8(writer.into_inner()).unwrap()
    }

    #[test]
    fn pixels_count_from_1_down_the_columns() {
        assert_eq!(written("a", 3, 2, &[0, 1, 1, 1, 0, 0]), "a\t2 2 5 1\n");
        // Other classes do not count.
        assert_eq!(written("a", 3, 2, &[2, 255, 1, 0, 0, 1]), "a\t5 2\n");
    }

    #[test]
    fn an_empty_mask_is_an_empty_text_and_a_full_one_is_one_run() {
        assert_eq!(written("a.jpg", 2, 3, &[0; 6]), "a.jpg\t\n");
        assert_eq!(written("a.jpg", 2, 3, &[1; 6]), "a.jpg\t1 6\n");
        assert_eq!(rows("a.jpg\t\n").unwrap()[0].mask(2, 3).unwrap(), [false; 6]);
    }

    #[test]
    fn lines_may_end_as_on_windows_or_not_at_all() {
        let found = rows("a\t1 2\r\nb c\t\r\n\r\n").unwrap();
        assert_eq!(found.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(found[0].runs.0, [Run { start: 1, length: 2 }]);
        assert_eq!(rows("a\t1 2").unwrap()[0].runs, found[0].runs);
        assert!(rows("").unwrap().is_empty());
    }

    #[test]
    fn runs_that_touch_are_read() {
        assert_eq!(rows("a\t1 2 3 1").unwrap()[0].mask(1, 4).unwrap(), [true, true, true, false]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_row_and_place() {
        for (text, words) in [
            ("a\t1 2\nb\t1 2 3\n", &["row 2 (b)", "3 numbers", "without its length"][..]),
            ("a\t0 2", &["row 1 (a)", "number 1 is 0", "from 1"]),
            ("a\t5 0", &["number 2 is 0", "at least one"]),
            ("a\t5 3 7 1", &["run 2 begins at 7, within run 1 (5 3)", "overlap"]),
            ("a\t5 3 1 1", &["run 2 begins at 1, before run 1 at 5", "ascending"]),
            ("a\t5 3 x 1", &["number 3 is `x`", "whole numbers"]),
            ("a\t5 -3", &["number 2 is `-3`"]),
            ("name\trle", &["row 1", "number 1 is `rle`", "without a header"]),
            ("a\t99999999999999999999 1", &["number 1", "too large"]),
            ("a\t18446744073709551615 1", &["run 1", "too long"]),
            ("a 1 2", &["row 1", "no tab"]),
            ("\t1 2", &["row 1", "no name"]),
            ("a\t\n\nb\t", &["row 2", "is empty"]),
        ] {
            let error = rows(text).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
        }
        let error = Reader::new(&b"a\t1 1\n\xff\t\n"[..]).collect::<Result<Vec<_>>>().unwrap_err().to_string();
        assert!(error.contains("row 2") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn runs_beyond_the_mask_are_refused_with_both_sizes() {
        let row = &rows("x\nq\t1 1".strip_prefix("x\n").unwrap()).unwrap()[0];
        assert!(row.mask(1, 1).is_ok());
        let row = &rows("q\t1 1 6 2").unwrap()[0];
        assert!(row.mask(7, 1).is_ok());
        let error = row.mask(2, 3).unwrap_err().to_string();
        assert!(error.contains("row 1 (q): run 2 (6 2) ends at pixel 7, and 2x3 have 6"), "{error}");
    }

    #[test]
    fn names_that_would_break_a_row_are_refused() {
        for name in ["", "a\tb", "a\nb", "a\rb"] {
            let error = Writer::new(Vec::new()).append(name, 1, 1, &[1], 1).unwrap_err().to_string();
            assert!(error.contains("name of a row"), "{name:?}: {error}");
        }
        let error = Writer::new(Vec::new()).append("a", 2, 2, &[1], 1).unwrap_err().to_string();
        assert!(error.contains("1 labels are no mask of 2x2"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            (width, height, bits) in (1usize..12, 1usize..12)
                .prop_flat_map(|(w, h)| (Just(w), Just(h), proptest::collection::vec(any::<bool>(), w * h))),
        ) {
            let mut writer = Writer::new(Vec::new());
            writer.append("first", width, height, &bits, false).unwrap();
            writer.append("a name.png", width, height, &bits, true).unwrap();
            let text = writer.into_inner();
            let rows = Reader::new(&text[..]).collect::<Result<Vec<_>>>().unwrap();
            prop_assert_eq!(rows.len(), 2);
            prop_assert_eq!(&rows[1].name, "a name.png");
            prop_assert_eq!(rows[1].mask(width, height).unwrap(), bits.clone());
            prop_assert!(rows[0].mask(width, height).unwrap().iter().zip(&bits).all(|(a, b)| a != b));
            // As few runs as there can be.
            let touches = |pair: &[Run]| pair[0].start + pair[0].length == pair[1].start;
            prop_assert!(!rows[1].runs.0.windows(2).any(touches));
        }

        #[test]
        fn nothing_that_is_read_panics_and_what_passes_is_written_alike(text in "[a-c\t\r\n 0-9]{0,40}") {
            if let Ok(rows) = rows(&text) {
                let mut writer = Writer::new(Vec::new());
                for row in &rows {
                    let _ = row.mask(5, 4);
                    if writer.append_runs(&row.name, &row.runs).is_err() {
                        return Ok(());
                    }
                }
                let again = Reader::new(&writer.into_inner()[..]).collect::<Result<Vec<_>>>().unwrap();
                prop_assert_eq!(again, rows);
            }
        }
    }
}
