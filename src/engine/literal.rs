//! Python literals as JSON values: metadata keys that exporters fill with `str(dict)`, such as `{0: 'house', 1: "road"}`.

use serde_json::{Map, Number, Value};

/// Brackets within brackets that are followed.
const DEPTH: usize = 16;

/// Reads a literal of numbers, texts, `True`, `False`, `None`, lists, tuples and dictionaries. Keys of dictionaries that are
/// whole numbers become texts. `None` where the text is anything else.
pub fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    let value = reader.value(DEPTH)?;
    reader.skip_space();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Whether the text goes on with `what`, which is then passed.
    fn takes(&mut self, what: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.skip_space();
        match self.rest.chars().next()? {
            '{' => self.dictionary(depth).map(Value::Object),
            '[' => self.list('[', ']', depth).map(Value::Array),
            '(' => self.list('(', ')', depth).map(Value::Array),
            '\'' | '"' => self.text().map(Value::String),
            _ => match self.word() {
                "True" => Some(Value::Bool(true)),
                "False" => Some(Value::Bool(false)),
                "None" => Some(Value::Null),
                word => number(word).map(Value::Number),
            },
        }
    }

    fn list(&mut self, open: char, close: char, depth: usize) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        self.takes(open);
        while !self.takes(close) {
            items.push(self.value(depth)?);
            if !self.takes(',') {
                return self.takes(close).then_some(items);
            }
        }
        Some(items)
    }

    fn dictionary(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut entries = Map::new();
        self.takes('{');
        while !self.takes('}') {
            let key = match self.value(depth)? {
                Value::String(key) => key,
                Value::Number(key) if key.is_i64() => key.to_string(),
                _ => return None,
            };
            if !self.takes(':') {
                return None;
            }
            let value = self.value(depth)?;
            entries.insert(key, value);
            if !self.takes(',') {
                return self.takes('}').then_some(entries);
            }
        }
        Some(entries)
    }

    /// Everything up to what ends a word.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",:]})".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A text in quotes, with the escapes that `repr` writes.
    fn text(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\n' => return None,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    c @ ('\\' | '\'' | '"') => c,
                    'x' => hexadecimal(&mut chars, 2)?,
                    'u' => hexadecimal(&mut chars, 4)?,
                    'U' => hexadecimal(&mut chars, 8)?,
                    _ => return None,
                }),
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

fn hexadecimal(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let code = (0..digits).try_fold(0u32, |code, _| code.checked_mul(16)?.checked_add(chars.next()?.to_digit(16)?))?;
    char::from_u32(code)
}

fn number(word: &str) -> Option<Number> {
    // What Rust reads beyond Python's numbers: nan, inf, infinity.
    if !word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    word.parse::<i64>().ok().map(Number::from).or_else(|| Number::from_f64(word.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// As Python's `repr` writes a value of the kinds that are read.
    fn repr(value: &Value) -> String {
        let join = |items: Vec<String>| items.join(", ");
        match value {
            Value::Null => "None".into(),
            Value::Bool(true) => "True".into(),
            Value::Bool(false) => "False".into(),
            Value::Number(n) => n.to_string(),
            Value::String(s) => format!("'{}'", s.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")),
            Value::Array(items) => format!("[{}]", join(items.iter().map(repr).collect())),
            Value::Object(entries) => {
                let entry = |(k, v): (&String, &Value)| format!("{}: {}", repr(&k.clone().into()), repr(v));
                format!("{{{}}}", join(entries.iter().map(entry).collect()))
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[^\r\u{0}]{0,6}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::hash_map("[a-z0-9']{0,3}", inner, 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_python_writes_is_read_back(value in values()) {
            prop_assert_eq!(parse(&repr(&value)), Some(value));
        }

        #[test]
        fn any_text_ends(text in r#"[\[\](){}:,'"\\a0 .]{0,40}"#) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn literals_of_pythons_own_making_are_read() {
        // print(str({0: "it's", 1: 'say "x"', 2: 'both\'"', 3: 'größe\t\x00'})), and a tuple with a trailing comma
        let text = r#"{0: "it's", 1: 'say "x"', 2: 'both\'"', 3: 'größe\t\x00'}"#;
        let expected = json!({"0": "it's", "1": "say \"x\"", "2": "both'\"", "3": "größe\t\u{0}"});
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("(1, -2.5e3, True, None, )"), Some(json!([1, -2500.0, true, null])));
    }

    #[test]
    fn what_is_no_literal_is_refused() {
        for text in ["", "sigmoid", "{'0': 'a'", "[1 2]", "{[]: 1}", "'a' 'b'", "nan", "__import__('os')", "'\\q'"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }
}
