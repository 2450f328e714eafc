use bae_model::{Normalisation, Parameters};

/// The maps between raw rows and the space that training works in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spaces {
    /// Of hidden states.
    pub input: Normalisation,
    /// Of targets, where there are some.
    pub target: Option<Normalisation>,
}

impl Spaces {
    /// Of what is made of hidden states.
    pub fn output(&self) -> &Normalisation {
        self.target.as_ref().unwrap_or(&self.input)
    }

    /// As [`Normalisation::fold_to`].
    pub fn fold(&self, trained: &Parameters) -> Parameters {
        self.input.fold_to(self.output(), trained)
    }

    /// Its tensors by their names in checkpoints, one value a dimension.
    pub fn tensors(&self) -> Vec<(&'static str, &[f32])> {
        let of_target = self
            .target
            .iter()
            .flat_map(|target| [("target_centre", &target.centre), ("target_scale", &target.scale)]);
        let all = [("centre", &self.input.centre), ("scale", &self.input.scale)].into_iter().chain(of_target);
        all.map(|(name, values)| (name, values.as_slice().expect("one dimension"))).collect()
    }
}
