//! The call `Admit`, and the tables that are derived from an image on demand and kept with it: profile, dataflow,
//! ranks.

use crate::errors::{Checked, Result, refuse_if};
use crate::ids::{DomainId, ObjectId, RegionId};
use crate::image::admit::admit;
use crate::image::dataflow::Flow;
use crate::image::profile::ImageProfile;
use crate::object::{Image, Object};
use crate::state::Kernel;
use alloc::{sync::Arc, vec::Vec};
use qmk_abi::image::Image as Program;
use qmk_abi::syscall::{Limit, ObjectKind, Patch};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// Checks an image and keeps it. Returns [`Reply::Handle`].
    ///
    /// # Errors
    /// The image's size exceeds what is left of the quota, or the first rule that an instruction breaks.
    pub(crate) fn admit(&mut self, caller: DomainId, machine: Handle, program: Program) -> Result<Reply> {
        let (_, rights) = self.require(caller, machine, ObjectKind::Machine, Rights::USE)?;
        self.check_slots(caller)?;
        // The quota bounds the time of admission, so it is asked for before the image is read.
        let domain = self.domains.get(caller)?;
        let left = domain.quota.instructions.saturating_sub(domain.used.instructions) as u64;
        let rest = program.code.len() as u64 + program.qubits as u64 + program.events as u64;
        let mut size = rest + program.terms.len() as u64;
        refuse_if(size > left, KernelError::Quota(Limit::Instructions))?;
        let admitted = Arc::new(admit(program, rights, self.limits).map_err(KernelError::Image)?);
        // The dataflow keeps an entry for each term that an instruction reads, so terms that instructions share count
        // each time.
        size = size.max(rest + admitted.terms_read as u64);
        refuse_if(size > left, KernelError::Quota(Limit::Instructions))?;
        let size = size as u32;
        self.domains.get_mut(caller)?.used.instructions += size;
        let object = Object::Image(Image { owner: caller, admitted, size, profile: None, flow: None });
        Ok(Reply::Handle(self.create_object(caller, object, ObjectKind::Image, machine)?.1))
    }

    /// The profile of an image on these patches. The last one is kept, as most images are spawned on one kind of patch.
    pub(crate) fn profile(&mut self, id: ObjectId, patch: Patch) -> Checked<&mut ImageProfile> {
        let device = &self.device;
        let image = self.objects.image_mut(id)?;
        if image.profile.as_ref().is_none_or(|(p, _)| *p != patch) {
            image.profile = None;
        }
        let make = || (patch, ImageProfile::new(&image.admitted, |op| device.cost(op, patch)));
        Ok(&mut image.profile.get_or_insert_with(make).1)
    }

    /// Ranks of the instructions of a strand, if it runs in a region where their order matters.
    pub(crate) fn heights(
        &mut self,
        image: ObjectId,
        patch: Patch,
        region: RegionId,
    ) -> Checked<Option<Arc<Vec<u32>>>> {
        let routes = self.regions.get(region)?.routes;
        let peak = self.objects.image(image)?.admitted.peak_qubits;
        // An instruction takes at most one route for each of its qubits, so routes are never short if there are as
        // many.
        let unlimited = self.profile(image, patch)?.magic == 0 && routes >= peak;
        if unlimited { Ok(None) } else { self.rank(image, patch).map(Some) }
    }

    /// Dataflow of an image.
    pub(crate) fn flow(&mut self, id: ObjectId) -> Checked<Arc<Flow>> {
        let image = self.objects.image_mut(id)?;
        let make = || Arc::new(Flow::new(image.admitted.image.clone(), image.admitted.peak_qubits));
        Ok(image.flow.get_or_insert_with(make).clone())
    }

    /// Ranks of an image's instructions: the longest path in cycles from each to the end.
    pub(crate) fn rank(&mut self, image: ObjectId, patch: Patch) -> Checked<Arc<Vec<u32>>> {
        if let Some(heights) = &self.profile(image, patch)?.heights {
            return Ok(heights.clone());
        }
        let admitted = &self.objects.image(image)?.admitted;
        let heights = admitted.image.heights(admitted.peak_qubits, |op| self.device.cost(op, patch).cycles);
        let ranks = Arc::new(heights);
        self.profile(image, patch)?.heights = Some(ranks.clone());
        Ok(ranks)
    }
}
