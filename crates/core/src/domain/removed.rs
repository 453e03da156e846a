use crate::keywords;

/// Why the text and the author of a stored tweet were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removed {
    /// Its author deleted it.
    Deleted,
    /// The platform withheld it.
    Withheld,
    /// A later version replaces it.
    Edited,
}

keywords!(Removed: "deleted" => Deleted, "withheld" => Withheld, "edited" => Edited);
