/// Gives an enum a word for each variant, the same in settings, logs, metrics and JSON:
/// `ALL`, `as_str`, `parse`, and `TryFrom<String>` with an error that lists the words, so
/// that `#[serde(try_from = "String")]` reads it.
#[macro_export]
macro_rules! keywords {
    ($type:ty: $($word:literal => $variant:ident),+ $(,)?) => {
        impl $type {
            /// All variants, in the order of their declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word for it in settings, logs, metrics and JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The variant for this word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|variant| variant.as_str() == word)
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(word: String) -> Result<Self, String> {
                Self::parse(&word).ok_or_else(|| {
                    format!(
                        "{word:?} is not known here, choose one of {}",
                        [$(concat!("\"", $word, "\"")),+].join(", ")
                    )
                })
            }
        }

        impl From<$type> for &'static str {
            fn from(variant: $type) -> Self {
                variant.as_str()
            }
        }
    };
}
