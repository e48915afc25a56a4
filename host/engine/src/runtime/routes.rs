//! Matches a component's routes with those of its transform in the pipeline.

use tollgate_sandbox::Manifest;

use tollgate_config::Transform;

/// Returns the index of each of a component's routes among its type's routes; `first` is the first of its transform.
pub(super) fn places(spec: &Transform, manifest: &Manifest, first: usize) -> Vec<usize> {
    let place = |name: &String| spec.routes.iter().position(|route| route.name == *name);
    // Each route exists, because [`wrong_routes`] has checked them.
    manifest.routes.iter().filter_map(|name| place(name).map(|at| first + at)).collect()
}

/// An error in a key of the pipeline.
pub struct Wrong {
    pub key: String,
    pub problem: String,
}

/// Returns the mismatches between a component's routes and those of its transform in the pipeline.
pub fn wrong_routes(kind: &tollgate_config::EventType, index: usize, manifest: &Manifest) -> Vec<Wrong> {
    let name = &manifest.name;
    let mut wrong = Vec::new();
    for to in kind.routes() {
        let Some((_, route)) = to.route.filter(|(of, _)| *of == index) else { continue };
        if !manifest.routes.contains(&route.name) {
            let problem = match manifest.routes.as_slice() {
                [] => format!("{name} has no routes"),
                routes => format!("{name} has no route {}; it has {}", route.name, routes.join(", ")),
            };
            wrong.push(Wrong { key: kind.place(&format!("transforms[{index}].routes.{}", route.name)), problem });
            continue;
        }
        let emitted = manifest.route_message(&route.name);
        if emitted != to.message() {
            let problem = format!(
                "{name} emits {emitted} on its route {}, but the pipeline expects {}; set the route's message, or name the \
                 type under routes in transform.yaml and build it again",
                route.name,
                to.message()
            );
            wrong.push(Wrong { key: to.place("message"), problem });
        }
    }
    let leads = |route: &&String| !kind.transforms[index].routes.iter().any(|known| known.name == **route);
    for route in manifest.routes.iter().filter(leads) {
        let message = manifest.route_message(route);
        let problem = format!(
            "{name} may emit on its route {route}, which has no destination; add routes: {{ {route}: {{ message: {message}, \
             topic: … }} }}"
        );
        wrong.push(Wrong { key: kind.place(&format!("transforms[{index}]")), problem });
    }
    wrong
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use tollgate_config::Pipeline;

    const PIPELINE: &str = "\
pipeline: shop
source: { brokers: 'localhost:9092', topic: shop, group_id: g, start: earliest }
contract: { protos: proto, message: shop.v1.Order }
dead_letter: { topic: shop.dlq }
postgres: { url: 'postgres://a@b/c', table: orders, key: [id], columns: {} }
transforms:
  - component: first.wasm
    routes: { late: shop.late }
  - component: second.wasm
    routes:
      items: { message: shop.v1.Item, postgres: { table: items, key: [id], columns: {} } }
      audit: shop.audit
";

    fn kind() -> tollgate_config::EventType {
        let parsed = Pipeline::parse(Path::new("p.yaml"), PIPELINE, &|_| None);
        parsed.unwrap_or_else(|errors| panic!("{errors}")).types.remove(0)
    }

    fn manifest(routes: &str, messages: &str) -> Manifest {
        let json = format!(
            r#"{{"name": "splitter", "version": "1", "input": "shop.v1.Order", "limits": {{"fuel": 1}},
                "routes": {routes}, "route_messages": {messages}}}"#
        );
        Manifest::parse(json.as_bytes()).unwrap()
    }

    fn told(routes: &str, messages: &str) -> Vec<String> {
        let wrong = wrong_routes(&kind(), 1, &manifest(routes, messages));
        wrong.into_iter().map(|wrong| format!("{}: {}", wrong.key, wrong.problem)).collect()
    }

    #[test]
    fn a_component_and_its_pipeline_agree_about_routes_or_do_not_start() {
        const ITEMS: &str = r#"{"items": "shop.v1.Item"}"#;
        assert_eq!(told(r#"["audit", "items"]"#, ITEMS), [""; 0]);
        assert_eq!(
            told(r#"["audit"]"#, "{}"),
            ["transforms[1].routes.items: splitter has no route items; it has audit"]
        );
        assert_eq!(
            told(r#"["audit", "items", "late"]"#, ITEMS),
            [
                "transforms[1]: splitter may emit on its route late, which has no destination; add routes: { late: { message: \
              shop.v1.Order, topic: … } }"
            ]
        );
        let differs = told(r#"["audit", "items"]"#, "{}");
        assert!(differs[0].starts_with(
            "transforms[1].routes.items.message: splitter emits shop.v1.Order on its route items, but the pipeline expects \
             shop.v1.Item"
        ));
        let short = told(r#"["audit", "items"]"#, r#"{"items": "shop.v1.Item", "audit": "shop.v1.Audit"}"#);
        assert!(short[0].starts_with("transforms[1].routes.audit: splitter emits shop.v1.Audit"), "{short:?}");
    }

    #[test]
    fn a_route_is_found_by_its_name_whatever_the_components_order() {
        let kind = kind();
        let names: Vec<&str> = kind.routes().filter_map(|to| Some(to.route?.1.name.as_str())).collect();
        assert_eq!(names, ["late", "items", "audit"]);
        assert_eq!(places(&kind.transforms[1], &manifest(r#"["audit", "items"]"#, "{}"), 1), [2, 1]);
    }
}
