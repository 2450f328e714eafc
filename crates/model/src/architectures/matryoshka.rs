use super::topk::Revival;
use super::{Auxiliary, BatchTopK, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use crate::{Architecture, Parameters};
use ndarray::{ArrayView2, ArrayViewMut1};

/// BatchTopK whose first features must reconstruct alone, too, so that general features are not absorbed by special ones: of all
/// features, of their first half, quarter and so on the squared errors are added up (Bussmann et al. 2025).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matryoshka {
    /// Features that are on in a row, on average, at most.
    pub k: usize,
    /// Reconstructions, from 1 to 32: by all features, the first half, the first quarter, …
    pub nested: u32,
    /// What dead features learn by.
    pub revival: Revival,
}

impl Matryoshka {
    fn inner(&self) -> BatchTopK {
        BatchTopK { k: self.k, revival: self.revival }
    }
}

impl Named for Matryoshka {
    const NAME: &'static str = "matryoshka-batchtopk";
    const OPTIONS: &'static [&'static str] = &["k"];
    const RECIPE: Recipe = Recipe { k: Some(32), ..Recipe::PLAIN };

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { k: settings.k()?, nested: 5, revival: Revival::after(settings.dead_after) })
    }

    fn applied(&self, parameters: &mut Parameters) -> Option<Architecture> {
        self.inner().applied(parameters)
    }
}

impl<T: Real> Coding<T> for Matryoshka {
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        Coding::<T>::per_feature(&self.inner())
    }

    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, pass: Pass) -> Entries<T> {
        self.inner().encode(z, tensors, pass)
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        self.inner().backward(column, gradient)
    }

    fn auxiliary(&self, z: ArrayView2<T>, tensors: &Tensors<T>, idle: &[u32]) -> Option<Auxiliary<T>> {
        self.revival.auxiliary(z, tensors, idle)
    }

    fn prefixes(&self, d_sae: usize) -> Vec<usize> {
        let mut ends: Vec<usize> = (0..self.nested).rev().map(|halvings| (d_sae >> halvings).max(1)).collect();
        ends.dedup();
        ends
    }

    fn after_step(&self, codes: &Entries<T>, tensors: &mut [ArrayViewMut1<T>]) {
        self.inner().after_step(codes, tensors);
    }
}
