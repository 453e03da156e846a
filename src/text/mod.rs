//! Pure text work: normalise, tokenise to words, vocabulary, feature hashing, brand matching.
