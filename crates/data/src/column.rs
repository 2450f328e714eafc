use std::fmt;

/// A whole number that travels beside each hidden state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Id of the token that the state belongs to.
    Token,
    /// Position of that token in its sequence, from 0.
    Position,
    /// Which sequence (document, request, prompt) it is in.
    Sequence,
    /// Layer of the language model.
    Layer,
    /// Any other grouping, as a number.
    Group,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Token, Self::Position, Self::Sequence, Self::Layer, Self::Group];

    /// The names that a column goes by in files, the first one being ours.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Token => &["token", "token_ids", "token_id", "tokens", "input_ids"],
            Self::Position => &["position", "positions", "position_ids", "position_id"],
            Self::Sequence => &["sequence", "sequence_id", "sequence_ids", "document", "document_id"],
            Self::Layer => &["layer", "layer_id"],
            Self::Group => &["group", "group_id"],
        }
    }

    /// The column that goes by this name, if one does.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.names().contains(&name))
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.names()[0])
    }
}
