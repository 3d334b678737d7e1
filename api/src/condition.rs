//! What is asked of nodes (`mesolith nodes --where`, `mesolith claim --where`): a small language of comparisons, total on
//! any text.
//!
//! ```text
//! any   := all ("||" all)*
//! all   := not ("&&" not)*
//! not   := "!" not | "(" any ")" | name [operator value]
//! operator := == != < <= > >= =~ has          value := number | 'text' | "text" | true | false
//! ```
//!
//! A name alone asks whether the node has it, and it is not `false` or 0. A comparison with what a node does not have
//! does not hold, whatever the operator.

use std::cmp::Ordering;
use std::fmt;

use regex_lite::Regex;
use serde_json::Value;

/// What is asked of each node.
#[derive(Clone, Debug)]
pub enum Condition {
    /// One of them holds.
    Any(Vec<Condition>),
    /// All of them do.
    All(Vec<Condition>),
    /// It does not.
    Not(Box<Condition>),
    /// The node has it, and it is neither `false` nor 0.
    Has(String),
    /// What the node has compares so.
    Compare {
        /// Of an attribute.
        name: String,
        /// How.
        operator: Operator,
        /// With what.
        value: Literal,
    },
}

/// How two values compare.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // as they are called
pub enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// A regular expression for the whole value, as in constraints.
    Like(Regex),
    /// Is a member of the set, or a number within the ranges.
    Member,
}

/// A value in a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Without quotes.
    Number(f64),
    /// In quotes.
    Text(String),
}

/// Where the text stops to make sense, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConditionError {
    text: String,
    at: usize,
    what: String,
}

impl std::error::Error for ConditionError {}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.text.get(..self.at).unwrap_or(&self.text).chars().count();
        write!(f, "--where: {} at column {}\n  {}\n  {:column$}^", self.what, column + 1, self.text, "")
    }
}

/// Parentheses and exclamation marks within one another.
const DEEPEST: usize = 64;
/// Nobody writes more by hand.
const LONGEST: usize = 4096;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Number(f64),
    Text(String),
    /// One of the operators.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 13] = ["&&", "||", "==", "!=", "<=", ">=", "=~", "<", ">", "!", "(", ")", "="];

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) => write!(f, "`{text}`"),
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Text(text) => write!(f, "'{text}'"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// It makes no sense, and where.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        // What is shown with a mark below it is one line.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
        let refuse = |at: usize, what: &str| ConditionError { text: text.clone(), at, what: what.to_owned() };
        if text.chars().count() > LONGEST {
            return Err(ConditionError {
                text: "…".to_owned(),
                at: 0,
                what: format!("more than {LONGEST} characters"),
            });
        }
        let tokens = tokens(&text).map_err(|(at, what)| refuse(at, &what))?;
        let mut parser = Parser { tokens: &tokens, next: 0 };
        let condition = parser.any(0).map_err(|(at, what)| refuse(at, &what))?;
        match parser.peek() {
            (_, Token::End) => Ok(condition),
            (at, Token::Name(word)) if word.eq_ignore_ascii_case("and") => Err(refuse(at, "`and` is written `&&`")),
            (at, Token::Name(word)) if word.eq_ignore_ascii_case("or") => Err(refuse(at, "`or` is written `||`")),
            (at, token) => Err(refuse(at, &format!("expected `&&`, `||` or the end, found {token}"))),
        }
    }

    /// Does it hold where `field` gives a node's values?
    #[must_use]
    pub fn holds(&self, field: &dyn Fn(&str) -> Option<Value>) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(field)),
            Self::All(parts) => parts.iter().all(|part| part.holds(field)),
            Self::Not(part) => !part.holds(field),
            Self::Has(name) => field(name)
                .is_some_and(|value| value.as_f64() != Some(0.0) && !matches!(text_of(&value).as_str(), "" | "false")),
            Self::Compare { name, operator, value } => {
                field(name).is_some_and(|found| compares(&found, operator, value))
            }
        }
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}

fn number_of(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number| number.is_finite())
}

fn compares(found: &Value, operator: &Operator, wanted: &Literal) -> bool {
    let order = match wanted {
        Literal::Number(number) => number_of(found).and_then(|found| found.partial_cmp(number)),
        Literal::Text(text) => Some(text_of(found).as_str().cmp(text.as_str())),
    };
    match operator {
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::Unequal => order != Some(Ordering::Equal),
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Operator::Like(pattern) => pattern.is_match(&text_of(found)),
        Operator::Member => is_member(&text_of(found), wanted),
    }
}

/// Sets are members with commas between, ranges `[0-3, 8]`.
fn is_member(set: &str, wanted: &Literal) -> bool {
    if let Some(ranges) = crate::attributes::parse_ranges(set) {
        let number = match wanted {
            Literal::Number(number) => *number,
            Literal::Text(text) => match text.parse() {
                Ok(number) => number,
                Err(_) => return false,
            },
        };
        #[allow(clippy::cast_precision_loss)] // CPUs and ports are small numbers
        return ranges.iter().any(|(begin, end)| (begin as f64..=end as f64).contains(&number));
    }
    let wanted = match wanted {
        Literal::Number(number) => number.to_string(),
        Literal::Text(text) => text.clone(),
    };
    set.split(',').any(|member| member == wanted)
}

/// A place in the text, and what is wrong there.
type Mistake = (usize, String);

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Mistake> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            if sign == "=" {
                return Err((at, "`=` compares nothing: write `==`".to_owned()));
            }
            tokens.push((at, Token::Sign(sign)));
            at += sign.len();
        } else if c == '\'' || c == '"' {
            let Some(end) = rest[1..].find(c) else {
                return Err((at, format!("the text that begins here lacks its {c}")));
            };
            tokens.push((at, Token::Text(rest[1..=end].to_owned())));
            at += end + 2;
        } else if c.is_alphanumeric() || "_.-+".contains(c) {
            let is_part = |c: char| c.is_alphanumeric() || "_.-:/+".contains(c);
            let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
            let begins_as_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            tokens.push((
                at,
                match number.filter(|_| begins_as_number) {
                    Some(number) => Token::Number(number),
                    None => Token::Name(word.to_owned()),
                },
            ));
            at += word.len();
        } else {
            let hint = match c {
                '&' => ": and is written `&&`",
                '|' => ": or is written `||`",
                _ => "",
            };
            return Err((at, format!("`{c}` has no meaning here{hint}")));
        }
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    next: usize,
}

impl Parser<'_> {
    /// The last token is the end, and is never passed.
    fn peek(&self) -> (usize, Token) {
        self.tokens.get(self.next).or(self.tokens.last()).cloned().unwrap_or((0, Token::End))
    }

    fn take(&mut self) -> (usize, Token) {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek().1, Token::Sign(found) if found == sign);
        if found {
            self.next += 1;
        }
        found
    }

    fn any(&mut self, depth: usize) -> Result<Condition, Mistake> {
        let mut parts = vec![self.all(depth)?];
        while self.takes("||") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Condition, Mistake> {
        let mut parts = vec![self.not(depth)?];
        while self.takes("&&") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Condition, Mistake> {
        let (at, token) = self.take();
        if depth > DEEPEST {
            return Err((at, format!("more than {DEEPEST} conditions within one another")));
        }
        match token {
            Token::Sign("!") => Ok(Condition::Not(Box::new(self.not(depth + 1)?))),
            Token::Sign("(") => {
                let inner = self.any(depth + 1)?;
                let (at, token) = self.take();
                if token == Token::Sign(")") { Ok(inner) } else { Err((at, format!("expected `)`, found {token}"))) }
            }
            Token::Name(name) => self.comparison(name),
            token @ (Token::Number(_) | Token::Text(_) | Token::Sign(_) | Token::End) => {
                Err((at, format!("expected the name of an attribute, found {token}")))
            }
        }
    }

    fn comparison(&mut self, name: String) -> Result<Condition, Mistake> {
        let operator = match self.peek().1 {
            Token::Sign("==") => Operator::Equal,
            Token::Sign("!=") => Operator::Unequal,
            Token::Sign("<") => Operator::Less,
            Token::Sign("<=") => Operator::LessOrEqual,
            Token::Sign(">") => Operator::Greater,
            Token::Sign(">=") => Operator::GreaterOrEqual,
            Token::Sign("=~") => {
                self.next += 1;
                return self.pattern(name);
            }
            Token::Name(word) if word == "has" => Operator::Member,
            Token::Name(_) | Token::Number(_) | Token::Text(_) | Token::Sign(_) | Token::End => {
                return Ok(Condition::Has(name));
            }
        };
        self.next += 1;
        let (at, token) = self.take();
        let value = match token {
            Token::Number(number) => Literal::Number(number),
            Token::Text(text) => Literal::Text(text),
            Token::Name(word) if word == "true" || word == "false" => Literal::Text(word),
            Token::Name(word) => return Err((at, format!("`{word}` is no number: text stands in quotes, '{word}'"))),
            token @ (Token::Sign(_) | Token::End) => {
                return Err((at, format!("expected a number or a text in quotes, found {token}")));
            }
        };
        Ok(Condition::Compare { name, operator, value })
    }

    fn pattern(&mut self, name: String) -> Result<Condition, Mistake> {
        let (at, token) = self.take();
        let Token::Text(pattern) = token else {
            return Err((at, format!("expected a regular expression in quotes, found {token}")));
        };
        let regex = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| (at, format!("this is not a valid regular expression ({error})")))?;
        Ok(Condition::Compare { name, operator: Operator::Like(regex), value: Literal::Text(pattern) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Value {
        json!({
            "disks.nvme": 4.0, "net.max_mbps": 25000.0, "rack": "r7-a", "cpu.flags": "aes,avx512f,sha_ni",
            "cpu.smt": "false", "gpu.count": 0.0, "numa.cpus.0": "[0-3, 8-11]", "node.bios.date": "2025-03-14",
            "unit": "12", "tpm.version": "2.0",
        })
    }

    fn holds(text: &str) -> bool {
        let node = node();
        Condition::parse(text).unwrap_or_else(|error| panic!("{error}")).holds(&|name| node.get(name).cloned())
    }

    #[test]
    fn conditions_mean_what_they_say() {
        for (text, expected) in [
            ("disks.nvme>=2 && net.max_mbps>=25000", true),
            ("disks.nvme >= 5 || rack == 'r7-a'", true),
            ("disks.nvme == 4.0", true),
            ("disks.nvme < 4", false),
            ("!(disks.nvme < 4)", true),
            ("rack =~ 'r7-.*'", true),
            ("rack =~ 'r7'", false), // the whole value
            ("rack != \"r7-b\"", true),
            ("cpu.flags has 'avx512f'", true),
            ("cpu.flags has 'avx512'", false),
            ("numa.cpus.0 has 9", true),
            ("numa.cpus.0 has 5", false),
            ("unit > 9", true), // a number, though it was typed as text
            ("node.bios.date >= '2025-01-01'", true),
            ("tpm.version == 2", true),
            ("cpu.smt == false", true),
            ("rack", true),
            ("cpu.smt", false),
            ("gpu.count", false),
            ("nothing", false),
            ("!nothing", true),
            ("nothing != 3", false), // what is not there compares with nothing
            ("a || b && rack", false),
            ("(nothing || rack) && disks.nvme", true),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        for (text, column, what) in [
            ("", 1, "expected the name of an attribute, found the end"),
            ("disks.nvme >=", 14, "expected a number or a text in quotes, found the end"),
            ("rack == r7", 9, "text stands in quotes, 'r7'"),
            ("rack = 'r7'", 6, "write `==`"),
            ("rack & zone", 6, "and is written `&&`"),
            ("rack and zone", 6, "`and` is written `&&`"),
            ("(rack", 6, "expected `)`, found the end"),
            ("rack)", 5, "found `)`"),
            ("rack == 'r7", 9, "lacks its '"),
            ("rack =~ '('", 9, "not a valid regular expression"),
            ("rack =~ r7", 9, "regular expression in quotes"),
            ("3 < disks.nvme", 1, "expected the name of an attribute, found `3`"),
            ("größe § 1", 7, "`§` has no meaning"),
            ("a == 1 b", 8, "expected `&&`, `||` or the end, found `b`"),
        ] {
            let error = Condition::parse(text).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(&format!("at column {column}\n")), "{text}: {error}");
        }
        let error = Condition::parse("rack == r7").unwrap_err().to_string();
        assert!(error.ends_with("\n  rack == r7\n          ^"), "{error}");
        let deep = "(".repeat(1000);
        assert!(Condition::parse(&deep).unwrap_err().to_string().contains("within one another"));
        assert!(Condition::parse(&"x".repeat(5000)).is_err());
    }

    #[test]
    fn any_text_is_a_condition_or_a_mistake() {
        // Every string of four characters over what the language is made of.
        let alphabet = ['a', '1', '.', '-', '\'', '"', '(', ')', '!', '=', '~', '<', '&', '|', ' ', 'ü'];
        let mut count = 0;
        for a in alphabet {
            for b in alphabet {
                for c in alphabet {
                    for d in alphabet {
                        let text: String = [a, b, c, d].into_iter().collect();
                        if let Ok(condition) = Condition::parse(&text) {
                            std::hint::black_box(condition.holds(&|_| Some(json!("[1-5]"))));
                            count += 1;
                        }
                    }
                }
            }
        }
        assert!(count > 500, "{count} of them are conditions");
    }
}
