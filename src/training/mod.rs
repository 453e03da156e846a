//! From labelled tweets to a registered model.
