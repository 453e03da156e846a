//! English words without meaning of their own: function words, and verbs and adverbs that
//! are common in any complaint.

/// Function words: never a term alone, and never the first or last word of a term.
const FUNCTION: &str = " a about after again all already also although always am an and another any anyone \
    anything are around as at back be because been before being both but by came can come \
    could did do does doing done down during each even ever every everyone few first for \
    from further get gets getting give gives giving go going gonna got had has have having \
    he her here hers him his how however i i'd i'll i'm i've if im in into is it it'd it'll \
    its just keep keeps know last let like lot made make many may maybe me might more most \
    much must my myself need needs next now of off ok on one only or other our ours out over \
    own please put really rt said same say says seem seems she should since so some someone \
    something still such take takes taking tell than that their them then there these they \
    they'll they're they've thing things think this those though through thru to today told \
    tonight too took try trying two u under until up upon ur us very via want wants was we \
    we'd we'll we're we've well were what when where which while who whom why will with \
    would yeah yes yesterday yet you you'd you'll you're you've your yours ";

/// Negations: never a term alone, and never the last word of a term, but possibly the first.
const NEGATIONS: &str = " ain't aren't can't cannot cant couldn't didn't didnt doesn't doesnt \
    don't dont hadn't hasn't haven't isn't isnt neither never no none nor not nothing shouldn't \
    wasn't weren't without won't wont wouldn't ";

/// Whether `word`, in lower case, is a function word.
pub(super) fn is_function_word(word: &str) -> bool {
    contains(FUNCTION, word)
}

/// Whether `word`, in lower case, negates what follows.
pub(super) fn is_negation(word: &str) -> bool {
    contains(NEGATIONS, word)
}

fn contains(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == word)
}
