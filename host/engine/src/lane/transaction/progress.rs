//! The progress rows, with the redo plan of each.

use sqlx::postgres::PgConnection;
use tollgate_config::DeliveryMode;
use tollgate_decide::Decided;
use tollgate_decide::known::Known;

use super::{Error, Participant, Scope};
use crate::hazards::hazards;
use crate::progress::store::{self, Delivery, Owner};

/// Moves the progress rows of a batch.
pub(in crate::lane) struct Progress<'a> {
    pub owner: &'a Owner,
    pub mode: DeliveryMode,
    pub steps: &'a [store::Step],
    /// The redo plan of each step.
    pub plans: &'a [Option<Vec<u8>>],
}

impl Participant for Progress<'_> {
    async fn load(&self, _: &mut PgConnection, _: Scope<'_>, _: &Decided, _: &mut Known) -> Result<(), Error> {
        Ok(())
    }

    fn contribute(&self, _: Scope<'_>, _: &Known, _: &mut Decided) {}

    async fn apply(&self, connection: &mut PgConnection, _: Scope<'_>, _: &Decided) -> Result<(), Error> {
        let guarded = !hazards().no_compare_and_swap;
        let delivery = match self.mode {
            DeliveryMode::EffectivelyOnce => Delivery::Token,
            DeliveryMode::AtLeastOnce => Delivery::AtLeastOnce,
        };
        let moved = store::advance(connection, self.owner, self.steps, self.plans, delivery, guarded).await?;
        let all = usize::try_from(moved).unwrap_or_default() == self.steps.len();
        if all || !guarded { Ok(()) } else { Err(Error::Guard) }
    }
}
