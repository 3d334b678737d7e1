//! What can be allowed or forbidden, and where Mesos's lists speak of it.

/// One kind of thing somebody may want to do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs)] // the names are Mesos's
pub enum Action {
    RegisterFramework,
    RunTask,
    TeardownFramework,
    ReserveResources,
    UnreserveResources,
    CreateVolume,
    DestroyVolume,
    ResizeVolume,
    CreateBlockDisk,
    DestroyBlockDisk,
    CreateMountDisk,
    DestroyMountDisk,
    CreateRawDisk,
    DestroyRawDisk,
    GetQuota,
    UpdateQuota,
    ViewRole,
    UpdateWeight,
    GetEndpoint,
    ViewFlags,
    ViewFramework,
    ViewTask,
    ViewExecutor,
    ViewContainer,
    ViewStandaloneContainer,
    AccessSandbox,
    AccessMesosLog,
    SetLogLevel,
    RegisterAgent,
    UpdateMaintenanceSchedule,
    GetMaintenanceSchedule,
    StartMaintenance,
    StopMaintenance,
    GetMaintenanceStatus,
    MarkAgentGone,
    DrainAgent,
    DeactivateAgent,
    ReactivateAgent,
    LaunchNestedContainer,
    LaunchNestedContainerSession,
    KillNestedContainer,
    WaitNestedContainer,
    RemoveNestedContainer,
    AttachContainerInput,
    AttachContainerOutput,
    LaunchStandaloneContainer,
    KillStandaloneContainer,
    WaitStandaloneContainer,
    RemoveStandaloneContainer,
    ModifyResourceProviderConfig,
    ViewResourceProvider,
    MarkResourceProviderGone,
    PruneImages,
    // Ours: Mesos has no say over them.
    RunPrivilegedTask,
    MountHostPath,
    UseSecret,
    ManageSecret,
}

impl Action {
    /// Every one.
    pub const ALL: [Self; 57] = [
        Self::RegisterFramework,
        Self::RunTask,
        Self::TeardownFramework,
        Self::ReserveResources,
        Self::UnreserveResources,
        Self::CreateVolume,
        Self::DestroyVolume,
        Self::ResizeVolume,
        Self::CreateBlockDisk,
        Self::DestroyBlockDisk,
        Self::CreateMountDisk,
        Self::DestroyMountDisk,
        Self::CreateRawDisk,
        Self::DestroyRawDisk,
        Self::GetQuota,
        Self::UpdateQuota,
        Self::ViewRole,
        Self::UpdateWeight,
        Self::GetEndpoint,
        Self::ViewFlags,
        Self::ViewFramework,
        Self::ViewTask,
        Self::ViewExecutor,
        Self::ViewContainer,
        Self::ViewStandaloneContainer,
        Self::AccessSandbox,
        Self::AccessMesosLog,
        Self::SetLogLevel,
        Self::RegisterAgent,
        Self::UpdateMaintenanceSchedule,
        Self::GetMaintenanceSchedule,
        Self::StartMaintenance,
        Self::StopMaintenance,
        Self::GetMaintenanceStatus,
        Self::MarkAgentGone,
        Self::DrainAgent,
        Self::DeactivateAgent,
        Self::ReactivateAgent,
        Self::LaunchNestedContainer,
        Self::LaunchNestedContainerSession,
        Self::KillNestedContainer,
        Self::WaitNestedContainer,
        Self::RemoveNestedContainer,
        Self::AttachContainerInput,
        Self::AttachContainerOutput,
        Self::LaunchStandaloneContainer,
        Self::KillStandaloneContainer,
        Self::WaitStandaloneContainer,
        Self::RemoveStandaloneContainer,
        Self::ModifyResourceProviderConfig,
        Self::ViewResourceProvider,
        Self::MarkResourceProviderGone,
        Self::PruneImages,
        Self::RunPrivilegedTask,
        Self::MountHostPath,
        Self::UseSecret,
        Self::ManageSecret,
    ];

    /// The list's name, and what its objects are called in it.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::RegisterFramework => ("register_frameworks", "roles"),
            Self::RunTask => ("run_tasks", "users"),
            Self::TeardownFramework => ("teardown_frameworks", "framework_principals"),
            Self::ReserveResources => ("reserve_resources", "roles"),
            Self::UnreserveResources => ("unreserve_resources", "reserver_principals"),
            Self::CreateVolume => ("create_volumes", "roles"),
            Self::DestroyVolume => ("destroy_volumes", "creator_principals"),
            Self::ResizeVolume => ("resize_volumes", "roles"),
            Self::CreateBlockDisk => ("create_block_disks", "roles"),
            Self::DestroyBlockDisk => ("destroy_block_disks", "roles"),
            Self::CreateMountDisk => ("create_mount_disks", "roles"),
            Self::DestroyMountDisk => ("destroy_mount_disks", "roles"),
            Self::CreateRawDisk => ("create_raw_disks", "roles"),
            Self::DestroyRawDisk => ("destroy_raw_disks", "roles"),
            Self::GetQuota => ("get_quotas", "roles"),
            Self::UpdateQuota => ("update_quotas", "roles"),
            Self::ViewRole => ("view_roles", "roles"),
            Self::UpdateWeight => ("update_weights", "roles"),
            Self::GetEndpoint => ("get_endpoints", "paths"),
            Self::ViewFlags => ("view_flags", "flags"),
            Self::ViewFramework => ("view_frameworks", "users"),
            Self::ViewTask => ("view_tasks", "users"),
            Self::ViewExecutor => ("view_executors", "users"),
            Self::ViewContainer => ("view_containers", "users"),
            Self::ViewStandaloneContainer => ("view_standalone_containers", "users"),
            Self::AccessSandbox => ("access_sandboxes", "users"),
            Self::AccessMesosLog => ("access_mesos_logs", "logs"),
            Self::SetLogLevel => ("set_log_level", "level"),
            Self::RegisterAgent => ("register_agents", "agents"),
            Self::UpdateMaintenanceSchedule => ("update_maintenance_schedules", "machines"),
            Self::GetMaintenanceSchedule => ("get_maintenance_schedules", "machines"),
            Self::StartMaintenance => ("start_maintenances", "machines"),
            Self::StopMaintenance => ("stop_maintenances", "machines"),
            Self::GetMaintenanceStatus => ("get_maintenance_statuses", "machines"),
            Self::MarkAgentGone => ("mark_agents_gone", "agents"),
            Self::DrainAgent => ("drain_agents", "agents"),
            Self::DeactivateAgent => ("deactivate_agents", "agents"),
            Self::ReactivateAgent => ("reactivate_agents", "agents"),
            Self::LaunchNestedContainer => ("launch_nested_containers", "users"),
            Self::LaunchNestedContainerSession => ("launch_nested_container_sessions", "users"),
            Self::KillNestedContainer => ("kill_nested_containers", "users"),
            Self::WaitNestedContainer => ("wait_nested_containers", "users"),
            Self::RemoveNestedContainer => ("remove_nested_containers", "users"),
            Self::AttachContainerInput => ("attach_containers_input", "users"),
            Self::AttachContainerOutput => ("attach_containers_output", "users"),
            Self::LaunchStandaloneContainer => ("launch_standalone_containers", "users"),
            Self::KillStandaloneContainer => ("kill_standalone_containers", "users"),
            Self::WaitStandaloneContainer => ("wait_standalone_containers", "users"),
            Self::RemoveStandaloneContainer => ("remove_standalone_containers", "users"),
            Self::ModifyResourceProviderConfig => ("modify_resource_provider_configs", "resource_providers"),
            Self::ViewResourceProvider => ("view_resource_providers", "resource_providers"),
            Self::MarkResourceProviderGone => ("mark_resource_providers_gone", "resource_providers"),
            Self::PruneImages => ("prune_images", "images"),
            Self::RunPrivilegedTask => ("run_privileged_tasks", "users"),
            Self::MountHostPath => ("mount_host_paths", "host_paths"),
            Self::UseSecret => ("use_secrets", "secrets"),
            Self::ManageSecret => ("manage_secrets", "secrets"),
        }
    }

    /// The list's name in `--acls`.
    #[must_use]
    pub const fn list(self) -> &'static str {
        self.names().0
    }

    /// What the objects are called in the list's rules.
    #[must_use]
    pub const fn objects(self) -> &'static str {
        self.names().1
    }

    /// Roles are paths, and `a/%` means every role below `a`; with paths of nodes and names of secrets it is the same.
    pub(super) fn objects_are_paths(self) -> bool {
        is_path(self.objects())
    }

    pub(super) fn of_list(list: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.list() == list)
    }
}

/// Are objects of this name paths?
pub(super) fn is_path(objects: &str) -> bool {
    matches!(objects, "roles" | "host_paths" | "secrets")
}
