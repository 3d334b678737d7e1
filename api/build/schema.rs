//! The descriptors, flattened: every message and enum with its Rust path, and which fields are boxed.

use std::collections::{BTreeMap, BTreeSet};

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Types of ours that stand for a message or an enum: ids are newtypes, and task states know which are terminal.
pub(crate) const OURS: [(&str, &str); 7] = [
    (".mesos.v1.FrameworkID", "crate::FrameworkId"),
    (".mesos.v1.OfferID", "crate::OfferId"),
    (".mesos.v1.AgentID", "crate::AgentId"),
    (".mesos.v1.TaskID", "crate::TaskId"),
    (".mesos.v1.ExecutorID", "crate::ExecutorId"),
    (".mesos.v1.OperationID", "crate::OperationId"),
    (".mesos.v1.TaskState", "crate::TaskState"),
];

/// Messages of which one member at a time is there: every member is boxed, so that all are as small as a heartbeat.
const UNIONS: [&str; 8] = [
    ".mesos.v1.scheduler.Call",
    ".mesos.v1.scheduler.Event",
    ".mesos.v1.executor.Call",
    ".mesos.v1.executor.Event",
    ".mesos.v1.master.Call",
    ".mesos.v1.master.Event",
    ".mesos.v1.agent.Call",
    ".mesos.v1.Offer.Operation",
];

/// Members that are large and mostly absent: boxed, so that the messages a master holds by the million stay small.
const RARE: [&str; 20] = [
    ".mesos.v1.TaskInfo.executor",
    ".mesos.v1.TaskInfo.container",
    ".mesos.v1.TaskInfo.health_check",
    ".mesos.v1.TaskInfo.check",
    ".mesos.v1.TaskInfo.discovery",
    ".mesos.v1.TaskStatus.check_status",
    ".mesos.v1.TaskStatus.container_status",
    ".mesos.v1.TaskStatus.limitation",
    ".mesos.v1.Task.container",
    ".mesos.v1.Task.health_check",
    ".mesos.v1.Task.check",
    ".mesos.v1.Task.discovery",
    ".mesos.v1.ExecutorInfo.container",
    ".mesos.v1.ExecutorInfo.command",
    ".mesos.v1.ExecutorInfo.discovery",
    ".mesos.v1.Resource.disk",
    ".mesos.v1.Resource.reservation",
    ".mesos.v1.Offer.domain",
    ".mesos.v1.Offer.url",
    ".mesos.v1.OperationStatus.container_id",
];

pub(crate) struct Schema<'a> {
    /// By full name, with the leading dot.
    pub(crate) messages: BTreeMap<String, &'a DescriptorProto>,
    pub(crate) enums: BTreeMap<String, &'a EnumDescriptorProto>,
    packages: BTreeSet<String>,
}

impl<'a> Schema<'a> {
    pub(crate) fn new(set: &'a FileDescriptorSet) -> Self {
        let mut schema = Self { messages: BTreeMap::new(), enums: BTreeMap::new(), packages: BTreeSet::new() };
        for file in &set.file {
            let package = format!(".{}", file.package());
            for one in &file.enum_type {
                schema.enums.insert(format!("{package}.{}", one.name()), one);
            }
            for message in &file.message_type {
                schema.add(&package, message);
            }
            schema.packages.insert(package);
        }
        schema
    }

    fn add(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for one in &message.enum_type {
            self.enums.insert(format!("{name}.{}", one.name()), one);
        }
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message);
    }

    /// Where prost puts the type: modules in snake case, the type in upper camel case.
    pub(crate) fn rust_path(&self, full: &str) -> String {
        if let Some((_, rust)) = OURS.iter().find(|(proto, _)| *proto == full) {
            return (*rust).to_owned();
        }
        let (scope, name) = full.rsplit_once('.').expect("full names begin with a dot");
        let modules: Vec<String> = scope.split('.').skip(1).map(ToSnakeCase::to_snake_case).collect();
        format!("crate::v1::generated::{}::{}", modules.join("::"), name.to_upper_camel_case())
    }

    /// The module of what is nested in a message.
    pub(crate) fn module_path(&self, full: &str) -> String {
        let path = self.rust_path(full);
        let (scope, _) = path.rsplit_once("::").expect("Rust paths have a crate");
        let (_, name) = full.rsplit_once('.').expect("full names begin with a dot");
        format!("{scope}::{}", name.to_snake_case())
    }

    pub(crate) fn is_ours(full: &str) -> bool {
        OURS.iter().any(|(proto, _)| *proto == full)
    }

    /// The messages prost makes a struct of.
    pub(crate) fn generated(&self) -> impl Iterator<Item = (&str, &'a DescriptorProto)> + '_ {
        self.messages
            .iter()
            .filter(|(full, message)| !Self::is_ours(full) && !is_map_entry(message))
            .map(|(full, message)| (full.as_str(), *message))
    }

    /// The entry of a map field: what it is a repeated of, to protobuf.
    pub(crate) fn map_entry(&self, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
        let message = self.messages.get(field.type_name())?;
        is_map_entry(message).then_some(*message)
    }

    pub(crate) fn boxed_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (full, message) in self.generated() {
            for field in &message.field {
                let path = format!("{full}.{}", field.name());
                let chosen = UNIONS.contains(&full) || RARE.contains(&path.as_str());
                if chosen
                    && field.label() == Label::Optional
                    && self.is_message(field)
                    && !Self::is_ours(field.type_name())
                {
                    paths.push(path);
                }
            }
        }
        paths
    }

    /// Boxed by our choice, or by prost because the message holds itself.
    pub(crate) fn is_boxed(&self, full: &str, field: &FieldDescriptorProto) -> bool {
        field.label() != Label::Repeated
            && self.is_message(field)
            && (self.boxed_paths_contain(full, field) || self.reaches(field.type_name(), full, &mut BTreeSet::new()))
    }

    fn boxed_paths_contain(&self, full: &str, field: &FieldDescriptorProto) -> bool {
        let path = format!("{full}.{}", field.name());
        let chosen = UNIONS.contains(&full) || RARE.contains(&path.as_str());
        chosen && field.label() == Label::Optional && !Self::is_ours(field.type_name())
    }

    fn reaches(&self, from: &str, to: &str, seen: &mut BTreeSet<String>) -> bool {
        if from == to {
            return true;
        }
        let Some(message) = self.messages.get(from).filter(|_| seen.insert(from.to_owned())) else { return false };
        let singular = message.field.iter().filter(|field| self.is_message(field) && field.label() != Label::Repeated);
        singular.into_iter().any(|field| self.reaches(field.type_name(), to, seen))
    }

    pub(crate) fn is_message(&self, field: &FieldDescriptorProto) -> bool {
        field.r#type() == Type::Message
    }
}

/// What Mesos deprecates it still speaks, and so do we: the compiler need not warn of it.
pub(crate) fn without_deprecations(set: &FileDescriptorSet) -> FileDescriptorSet {
    fn clear(message: &mut DescriptorProto) {
        for options in message.field.iter_mut().filter_map(|field| field.options.as_mut()) {
            options.deprecated = None;
        }
        for value in message.enum_type.iter_mut().flat_map(|one| one.value.iter_mut()) {
            value.options = None;
        }
        message.nested_type.iter_mut().for_each(clear);
    }
    let mut set = set.clone();
    set.file.iter_mut().flat_map(|file| file.message_type.iter_mut()).for_each(clear);
    set
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

/// The Rust name of a field.
pub(crate) fn rust_field(field: &FieldDescriptorProto) -> String {
    let name = field.name().to_snake_case();
    match name.as_str() {
        "type" | "ref" | "use" | "match" | "move" | "static" | "struct" | "enum" | "box" => format!("r#{name}"),
        _ => name,
    }
}
