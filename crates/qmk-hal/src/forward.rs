//! Devices that wrap another.

/// Forwards the methods of [`Device`](crate::Device), and its `Work`, to a field. To be used in an `impl Device for …`;
/// the items after `except` are those that the wrapper writes itself.
///
/// A wrapper that changes `issue` must except `issue_range` too, or ranges pass it by. One that changes interactive
/// calls implements [`Interactive`](crate::Interactive) and excepts `interactive`; the same holds for saved states.
///
/// ```
/// use qmk_hal::{Device, DeviceError, SpaceId, SpaceSpec, forward_device};
///
/// /// Counts the spaces that were opened.
/// struct Counted<D> {
///     inner: D,
///     opened: u32,
/// }
///
/// impl<D: Device> Device for Counted<D> {
///     forward_device!(inner: D; except open);
///
///     fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
///         self.opened += 1;
///         self.inner.open(spec)
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward_device {
    ($inner:ident: $type:ty $(; except $($except:ident),* $(,)?)?) => {
        $crate::__forward!(Work [$($($except)*)?] type Work = <$type as $crate::Device>::Work;);
        $crate::__forward!(spec [$($($except)*)?] #[inline] fn spec(&self) -> &$crate::MachineSpec {
            $crate::Device::spec(&self.$inner)
        });
        $crate::__forward!(cost [$($($except)*)?]
            #[inline] fn cost(&self, op: &$crate::__private::Op, patch: $crate::__private::Patch) -> $crate::Cost {
                $crate::Device::cost(&self.$inner, op, patch)
            });
        $crate::__forward!(physical_qubits [$($($except)*)?]
            fn physical_qubits(&self, patch: $crate::__private::Patch) -> Option<u32> {
                $crate::Device::physical_qubits(&self.$inner, patch)
            });
        $crate::__forward!(errors [$($($except)*)?]
            fn errors(
                &self,
                patch: $crate::__private::Patch,
                noise: $crate::__private::NoiseSpec,
            ) -> Result<$crate::Errors, $crate::__private::String> {
                $crate::Device::errors(&self.$inner, patch, noise)
            });
        $crate::__forward!(failure [$($($except)*)?]
            fn failure(
                &self,
                image: &$crate::__private::Image,
                patch: $crate::__private::Patch,
                noise: $crate::__private::NoiseSpec,
            ) -> f64 {
                $crate::Device::failure(&self.$inner, image, patch, noise)
            });
        $crate::__forward!(open [$($($except)*)?]
            fn open(&mut self, spec: $crate::SpaceSpec) -> Result<$crate::SpaceId, $crate::DeviceError> {
                $crate::Device::open(&mut self.$inner, spec)
            });
        $crate::__forward!(issue [$($($except)*)?]
            #[inline] fn issue(&mut self, space: $crate::SpaceId, index: u32) -> Result<(), $crate::DeviceError> {
                $crate::Device::issue(&mut self.$inner, space, index)
            });
        $crate::__forward!(issue_range [$($($except)*)?]
            fn issue_range(
                &mut self,
                space: $crate::SpaceId,
                indices: core::ops::Range<u32>,
            ) -> Result<(), $crate::DeviceError> {
                $crate::Device::issue_range(&mut self.$inner, space, indices)
            });
        $crate::__forward!(undo [$($($except)*)?]
            fn undo(&mut self, space: $crate::SpaceId, index: u32) -> Result<(), $crate::DeviceError> {
                $crate::Device::undo(&mut self.$inner, space, index)
            });
        $crate::__forward!(give [$($($except)*)?]
            fn give(
                &mut self,
                space: $crate::SpaceId,
                columns: $crate::__private::Arc<[$crate::Column]>,
            ) -> Result<(), $crate::DeviceError> {
                $crate::Device::give(&mut self.$inner, space, columns)
            });
        $crate::__forward!(begin_work [$($($except)*)?]
            fn begin_work(&mut self, space: $crate::SpaceId) -> Result<Self::Work, $crate::DeviceError> {
                $crate::Device::begin_work(&mut self.$inner, space)
            });
        $crate::__forward!(finish [$($($except)*)?]
            fn finish(&mut self, work: Self::Work) -> Result<$crate::SpaceStatus, $crate::DeviceError> {
                $crate::Device::finish(&mut self.$inner, work)
            });
        $crate::__forward!(outcome [$($($except)*)?]
            fn outcome(&self, space: $crate::SpaceId, shot: u64, event: u32) -> bool {
                $crate::Device::outcome(&self.$inner, space, shot, event)
            });
        $crate::__forward!(outcomes [$($($except)*)?]
            fn outcomes(&self, space: $crate::SpaceId, first: u64, count: u32, out: &mut $crate::__private::Vec<u8>) {
                $crate::Device::outcomes(&self.$inner, space, first, count, out);
            });
        $crate::__forward!(begin_close [$($($except)*)?]
            fn begin_close(&mut self, space: $crate::SpaceId) -> Option<Self::Work> {
                $crate::Device::begin_close(&mut self.$inner, space)
            });
        $crate::__forward!(interactive [$($($except)*)?]
            fn interactive(&mut self) -> Option<&mut dyn $crate::Interactive<Work = Self::Work>> {
                $crate::Device::interactive(&mut self.$inner)
            });
        $crate::__forward!(snapshots [$($($except)*)?]
            fn snapshots(&mut self) -> Option<&mut dyn $crate::Snapshots<Work = Self::Work>> {
                $crate::Device::snapshots(&mut self.$inner)
            });
    };
}

/// An item unless its name is in the list.
#[doc(hidden)]
#[macro_export]
macro_rules! __forward {
    (Work [Work $($rest:ident)*] $($item:tt)*) => {};
    (spec [spec $($rest:ident)*] $($item:tt)*) => {};
    (cost [cost $($rest:ident)*] $($item:tt)*) => {};
    (physical_qubits [physical_qubits $($rest:ident)*] $($item:tt)*) => {};
    (errors [errors $($rest:ident)*] $($item:tt)*) => {};
    (failure [failure $($rest:ident)*] $($item:tt)*) => {};
    (open [open $($rest:ident)*] $($item:tt)*) => {};
    (issue [issue $($rest:ident)*] $($item:tt)*) => {};
    (issue_range [issue_range $($rest:ident)*] $($item:tt)*) => {};
    (undo [undo $($rest:ident)*] $($item:tt)*) => {};
    (give [give $($rest:ident)*] $($item:tt)*) => {};
    (begin_work [begin_work $($rest:ident)*] $($item:tt)*) => {};
    (finish [finish $($rest:ident)*] $($item:tt)*) => {};
    (outcome [outcome $($rest:ident)*] $($item:tt)*) => {};
    (outcomes [outcomes $($rest:ident)*] $($item:tt)*) => {};
    (begin_close [begin_close $($rest:ident)*] $($item:tt)*) => {};
    (interactive [interactive $($rest:ident)*] $($item:tt)*) => {};
    (snapshots [snapshots $($rest:ident)*] $($item:tt)*) => {};
    ($name:ident [] $($item:tt)*) => { $($item)* };
    ($name:ident [$other:ident $($rest:ident)*] $($item:tt)*) => {
        $crate::__forward!($name [$($rest)*] $($item)*);
    };
}
