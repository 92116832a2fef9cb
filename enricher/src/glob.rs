//! `*` and `?` in names that configuration gives. Nothing else is special.

/// Does `text` match `pattern`? `*` stands for any bytes, also none; `?` for one byte.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut pi, mut ti) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while ti < t.len() {
        match p.get(pi) {
            Some(b'*') => {
                back = Some((pi + 1, ti));
                pi += 1;
            }
            Some(&c) if c == b'?' || c == t[ti] => {
                pi += 1;
                ti += 1;
            }
            _ => match back {
                Some((after, at)) => {
                    back = Some((after, at + 1));
                    pi = after;
                    ti = at + 1;
                }
                None => return false,
            },
        }
    }
    p[pi..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*-gateway-*", "x-gateway-1"),
            ("a*b*c", "axxbxxbc"),
            ("a?c", "abc"),
            ("**", "x"),
            ("/srv/*", "/srv/a/b"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "b"),
            ("", "a"),
            ("a?", "a"),
            ("*-gateway-*", "gateway-1"),
            ("a*b", "abc"),
            ("[a]", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
