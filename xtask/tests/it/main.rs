//! The rules of the project, applied to the project.

mod edges;
