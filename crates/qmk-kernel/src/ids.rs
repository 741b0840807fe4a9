//! Numbers that name the parts of the kernel. Each kind has a type of its own, so that the number of a region cannot be
//! taken for that of a context.

use core::fmt;
use core::marker::PhantomData;

/// Number of an entry of a [`Slab`](crate::slab::Slab), handed out by its `insert`. After the entry is removed, the
/// number is used again: only holders that keep the entry alive may keep its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id<K> {
    index: u32,
    kind: PhantomData<K>,
}

impl<K> Id<K> {
    pub(crate) const fn new(index: u32) -> Self {
        Id { index, kind: PhantomData }
    }

    #[inline]
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }
}

/// As the bare number, so that a dump of the kernel stays readable.
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.index.fmt(f)
    }
}

/// The kind of entry that a number names, and the story of a number that names nothing.
pub(crate) trait Kind: Copy + Ord {
    const MISSING: &'static str;
}

/// Kinds of numbers. They are not the stored types, so that what is stored can hold numbers of what holds it.
pub(crate) mod kind {
    use super::Kind;

    macro_rules! kinds {
        ($($name:ident: $story:literal,)*) => {$(
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub(crate) enum $name {}

            impl Kind for $name {
                const MISSING: &'static str = $story;
            }
        )*};
    }

    kinds! {
        Object: "the number of an object names nothing",
        Strand: "the number of a strand names nothing",
        Context: "the number of a context names nothing",
        Region: "the number of a region names nothing",
        Channel: "the number of a channel names nothing",
    }
}

pub(crate) type ObjectId = Id<kind::Object>;
pub(crate) type ContextId = Id<kind::Context>;
pub(crate) type RegionId = Id<kind::Region>;
pub(crate) type ChannelId = Id<kind::Channel>;
/// An object's number that was found to be a strand's. Regions hold these, so that they need not ask for the kind
/// again.
pub(crate) type StrandId = Id<kind::Strand>;

impl ObjectId {
    /// Itself, for code that takes the number of any object.
    #[inline]
    pub(crate) const fn object(self) -> ObjectId {
        self
    }
}

impl StrandId {
    /// The strand that is this object.
    pub(crate) const fn of(object: ObjectId) -> Self {
        Id::new(object.index)
    }

    /// The same number, as that of an object.
    #[inline]
    pub(crate) const fn object(self) -> ObjectId {
        Id::new(self.index)
    }
}

impl RegionId {
    /// The region that all strands share which name no other. It is made at boot and never destroyed.
    pub(crate) const SHARED: RegionId = Id::new(0);
}

/// Names a domain to the embedding of the kernel. Unlike other numbers, ids are never used again: an embedding may keep
/// the id of a domain that is gone, and must not reach another tenant with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(pub u32);
