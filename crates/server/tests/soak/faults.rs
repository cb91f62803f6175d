//! What goes wrong while the clients ask, and what an operator does meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sardonyx::internals::let_allocations;
use sardonyx_server::Service;
use sardonyx_server::proto::{RepositoryModelLoadRequest, RepositoryModelUnloadRequest};
use sardonyx_testing::dice::Dice;
use tonic::{Code, Status};

use super::books::Outcome;
use super::clients::{Grpc, World};
use super::models;

/// The runs that are in flight on the device at most.
pub const FRAMES: usize = 2;

/// How often each happened.
#[derive(Debug, Default)]
pub struct Faults {
    pub losses: AtomicU64,
    pub out_of_memory: AtomicU64,
    pub reloads: AtomicU64,
    pub unloads: AtomicU64,
}

pub async fn load(client: &mut Grpc, name: &str) -> Result<(), Status> {
    let request = RepositoryModelLoadRequest { model_name: name.into(), ..Default::default() };
    client.repository_model_load(request).await.map(drop)
}

pub async fn unload(client: &mut Grpc, name: &str) -> Result<(), Status> {
    let request = RepositoryModelUnloadRequest { model_name: name.into(), ..Default::default() };
    client.repository_model_unload(request).await.map(drop)
}

/// An operator may hear that the device was lost or had no memory; it tries again.
async fn again(world: &World, what: &str, outcome: Result<(), Status>) -> bool {
    let Err(status) = outcome else { return true };
    let is_unavailable = status.code() == Code::Unavailable;
    match Outcome::of_error("an operator", is_unavailable, status.message()) {
        Outcome::Broken => {}
        _ => drop(world.books.note("sum", Outcome::Wrong(format!("{what}: {status}")))),
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    false
}

/// Loses the device, while no run is at work on it: wgpu frees the memory that a run reads.
async fn lose(service: &Service) -> bool {
    let Some(slot) = service.devices().slots().first().cloned() else { return false };
    let lost = tokio::task::spawn_blocking(move || {
        let _turns: Vec<_> = (0..FRAMES).map(|_| slot.turn()).collect();
        let device = slot.device_now();
        let Some((device, _)) = device.as_ref().and_then(|device| device.wgpu()) else { return false };
        device.destroy();
        true
    });
    lost.await.unwrap()
}

/// Lets things go wrong until the clients stop. The versions of `sum` go up from `version`.
pub async fn all(
    world: &World,
    service: &Service,
    repository: &Path,
    faults: &Faults,
    version: &mut u64,
    mut dice: Dice,
) {
    let mut client = world.connected().await;
    while world.goes_on() {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let device = service.devices().slots().first().and_then(|slot| slot.device_now());
        match dice.below(16) {
            0..8 => {
                let Some(device) = device else { continue };
                let_allocations(&device, dice.below(30));
                tokio::time::sleep(Duration::from_millis(dice.below(20) as u64)).await;
                let_allocations(&device, usize::MAX);
                faults.out_of_memory.fetch_add(1, Relaxed);
            }
            8 => {
                if lose(service).await {
                    faults.losses.fetch_add(1, Relaxed);
                    // Every model makes a session on the new device before that is lost too.
                    world.all_answer(&mut client).await;
                }
            }
            9..13 => {
                *version += 1;
                models::put(repository, "sum", *version, &models::sum(*version as f32), "");
                while world.goes_on() && !again(world, "load sum", load(&mut client, "sum").await).await {}
                let _ = std::fs::remove_dir_all(repository.join("sum").join((*version - 1).to_string()));
                faults.reloads.fetch_add(1, Relaxed);
            }
            _ => {
                while world.goes_on() && !again(world, "unload come", unload(&mut client, "come").await).await
                {
                }
                tokio::time::sleep(Duration::from_millis(dice.below(40) as u64)).await;
                // It comes back even if the clients have stopped.
                while !again(world, "load come", load(&mut client, "come").await).await {}
                faults.unloads.fetch_add(1, Relaxed);
            }
        }
    }
}
