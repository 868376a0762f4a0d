//! The pages of `docs/`: how to use the fences, where they work, what they cost, and why they are right.

/// Where the pages' links lead in rustdoc. In the repository each page ends with its own definitions of these labels. If a
/// label is defined twice the first definition counts, which is the one here.
macro_rules! links {
    () => {
        "\
[`Asymmetric`]: crate::Asymmetric
[`Bias`]: crate::Bias
[`Coalesce`]: crate::Coalesce
[`Pacer`]: crate::Pacer
[`Ticket`]: crate::Ticket
[`heavy_fence`]: crate::heavy_fence
[`init`]: crate::init
[`try_heavy_fence`]: crate::try_heavy_fence
[adopting]: crate::guide::adopting
[cookbook]: crate::guide::cookbook
[between-processes]: crate::guide::between_processes
[contributing]: #design-notes
[costs]: crate::guide::costs
[hazard-costs]: crate::guide::hazard_costs
[hazard-model]: crate::guide::hazard_pointers#check-it-with-a-model
[hazard-pointers]: crate::guide::hazard_pointers
[large-machines]: crate::guide::large_machines
[limits]: crate::guide::limits
[loom]: crate::guide::checking_under_loom
[picture]: #the-picture
[platforms]: crate::guide::platforms
[specification]: crate::guide::specification
"
    };
}

macro_rules! pages {
    ($($(#[$attribute:meta])* $name:ident $file:literal $($title:literal $picture:literal)?;)*) => {$(
        $(#[$attribute])*
        #[doc = links!()]
        #[doc = include_str!($file)]
        $(#[doc = $title] #[doc = include_str!($picture)])?
        pub mod $name {}
    )*};
}

pages! {
    adopting "../docs/adopting.md";
    between_processes "../docs/between-processes.md";
    // Its examples are models: `lib.rs` has them tested.
    #[cfg(not(doctest))]
    checking_under_loom "../docs/checking-under-loom.md";
    // Their examples are those of other packages, which test them.
    #[cfg(not(doctest))]
    hazard_pointers "../docs/hazard-pointers.md";
    #[cfg(not(doctest))]
    cookbook "../docs/cookbook.md";
    design "../docs/design.md";
    costs "../docs/costs.md" "\n## The picture\n" "../docs/costs.svg";
    hazard_costs "../docs/hazard-costs.md";
    large_machines "../docs/large-machines.md";
    limits "../docs/limits.md";
    observing "../docs/observing.md";
    platforms "../docs/platforms.md";
    specification "../docs/specification.md";
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
