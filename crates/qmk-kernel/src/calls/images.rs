//! Calls on images, and what is worked out of them once.

use crate::errors::{Result, not_now};
use crate::image::admit::admit;
use crate::image::dataflow::Flow;
use crate::image::profile::ImageProfile;
use crate::object::{Entry, Object};
use crate::state::Kernel;
use alloc::sync::Arc;
use alloc::vec::Vec;
use qmk_abi::image::Image;
use qmk_abi::syscall::{Limit, ObjectKind, Patch};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    pub(crate) fn admit(&mut self, d: u32, machine: Handle, image: Image) -> Result<Reply> {
        let (_, rights) = self.require(d, machine, ObjectKind::Machine, Rights::USE)?;
        self.check_slots(d)?;
        let Some(domain) = self.domain(d) else { return Err(KernelError::NoCapability) };
        let left = domain.quota.instructions.saturating_sub(domain.used.instructions) as u64;
        let rest = image.code.len() as u64 + image.qubits as u64 + image.events as u64;
        let mut size = rest + image.terms.len() as u64;
        if size > left {
            return Err(KernelError::Quota(Limit::Instructions));
        }
        let image = Arc::new(admit(image, rights, self.limits).map_err(KernelError::Image)?);
        // Instructions may share terms, which does not make them cheaper to keep.
        size = size.max(rest + image.terms_read as u64);
        if size > left {
            return Err(KernelError::Quota(Limit::Instructions));
        }
        if let Some(domain) = self.domain_mut(d) {
            domain.used.instructions += size as u32;
        }
        let object = Object::Image { owner: d, image, size: size as u32, profile: None, flow: None };
        Ok(Reply::Handle(self.create_object(d, object, ObjectKind::Image, machine)?.1))
    }

    /// What an image takes on these patches; the last answer is kept with the image.
    pub(crate) fn profile(&mut self, image: u32, patch: Patch) -> Result<ImageProfile> {
        let Object::Image { image: admitted, profile, .. } = self.object(image) else {
            return not_now("the image is gone");
        };
        if let Some((_, profile)) = profile.as_ref().filter(|(p, _)| *p == patch) {
            return Ok(profile.clone());
        }
        let found = ImageProfile::new(admitted, |op| self.device.cost(op, patch));
        if let Some(Entry { object: Object::Image { profile, .. }, .. }) = self.objects.get_mut(image) {
            *profile = Some((patch, found.clone()));
        }
        Ok(found)
    }

    /// Ranks of a strand's instructions, if it runs where order matters.
    pub(crate) fn heights(&mut self, image: u32, patch: Patch, region: u32) -> Option<Arc<Vec<u32>>> {
        let profile = self.profile(image, patch).ok()?;
        let routes = self.regions.get(region)?.routes;
        let Object::Image { image: admitted, .. } = self.object(image) else { return None };
        // No more routes are in use at once than qubits.
        if profile.magic == 0 && routes >= admitted.peak_qubits { None } else { Some(self.rank(image, patch)) }
    }

    /// Dataflow of an image.
    pub(crate) fn flow(&mut self, image: u32) -> Arc<Flow> {
        match self.objects.get_mut(image) {
            Some(Entry { object: Object::Image { image, flow, .. }, .. }) => {
                flow.get_or_insert_with(|| Arc::new(Flow::new(image.image.clone(), image.peak_qubits))).clone()
            }
            _ => Arc::default(),
        }
    }

    pub(crate) fn rank(&mut self, image: u32, patch: Patch) -> Arc<Vec<u32>> {
        let device = &self.device;
        let Some(Entry { object: Object::Image { image, profile, .. }, .. }) = self.objects.get_mut(image) else {
            return Arc::default();
        };
        let make = || Arc::new(image.image.heights(image.peak_qubits, |op| device.cost(op, patch).cycles));
        match profile {
            Some((_, profile)) => profile.heights.get_or_insert_with(make).clone(),
            None => make(),
        }
    }
}
