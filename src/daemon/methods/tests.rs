//! Stories of the methods of a device while files come, change and go.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::config::own_methods;
use crate::handler::built_in;
use crate::model::command::Method;
use crate::model::own::own_names;

/// The folders of one device.
struct Place {
    root: TempDir,
    folders: Folders,
}

impl Place {
    fn new() -> Self {
        let root = TempDir::new().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let folders = Folders { configuration: at("etc"), vendor_handlers: at("usr"), ..Folders::from_env() };
        for folder in [at("usr"), folders.handlers()] {
            fs::create_dir_all(&folder).expect("a folder");
        }
        Self { root, folders }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folders.handlers().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644)).expect("a mode");
    }

    async fn read(&self) -> Methods {
        Methods::read(self.folders.clone(), built_in()).await.expect("folders that can be read")
    }

    /// What is told as a problem, without the path of the test's folder.
    fn problem(&self, methods: &Methods) -> Option<String> {
        methods.problem().map(|text| text.replace(&self.root.path().display().to_string(), ""))
    }
}

fn program(method: &str) -> String {
    format!("method = \"{method}\"\nkind = \"program\"\nprogram = \"/bin/true\"\n")
}

fn names(methods: &Methods, config: &Config) -> Vec<String> {
    let own: Vec<String> = built_in().iter().map(|handler| handler.spec().name.to_string()).collect();
    let all = methods.handlers(config);
    let names = all.iter().map(|handler| handler.spec().name.to_string());
    names.filter(|name| !own.contains(name)).collect()
}

#[tokio::test]
async fn a_manifest_comes_changes_breaks_is_mended_masked_and_goes() {
    let place = Place::new();
    let config = Config::default();
    let mut methods = place.read().await;
    assert_eq!((names(&methods, &config), methods.problem()), (vec![], None));

    place.write("a.toml", &program("a"));
    assert!(methods.reload().await.expect("read"));
    assert!(!methods.reload().await.expect("read"), "nothing new");
    assert_eq!(names(&methods, &config), ["a"]);

    place.write("a.toml", &format!("{}time_limit = \"1m\"\n", program("a")));
    assert!(methods.reload().await.expect("read"));
    let good = methods.manifests.clone();
    place.write("a.toml", &format!("{}time_limit = \"0s\"\n", program("a")));
    assert!(!methods.reload().await.expect("read"), "what held holds");
    assert_eq!(methods.manifests, good);
    assert_eq!(
        place.problem(&methods).as_deref(),
        Some(
            "/etc/handlers.d/a.toml:4: time_limit: 0s is out of bounds: 1s to 1d is expected; until it is mended, commands for a fail"
        )
    );
    place.write("b.toml", "");
    place.write("c.toml", &program("c"));
    assert!(methods.reload().await.expect("read"), "the others are read");
    assert_eq!(names(&methods, &config), ["a", "c"]);
    assert!(place.problem(&methods).is_some_and(|text| text.contains(" (and 2 more; see `twinagent check`)")));

    fs::remove_file(place.path("a.toml")).expect("the file");
    fs::remove_file(place.path("b.toml")).expect("the file");
    assert!(methods.reload().await.expect("read"));
    assert_eq!((names(&methods, &config), methods.problem()), (vec!["c".to_owned()], None));
    fs::remove_file(place.path("c.toml")).expect("the file");
    fs::write(place.folders.vendor_handlers.join("c.toml"), program("ofVendor")).expect("a file");
    assert!(methods.reload().await.expect("read"));
    assert_eq!(names(&methods, &config), ["ofVendor"]);
    symlink("/dev/null", place.path("c.toml")).expect("a link");
    assert!(methods.reload().await.expect("read"));
    assert_eq!((names(&methods, &config), methods.problem()), (vec![], None));
}

#[tokio::test]
async fn one_that_is_wrong_at_the_start_is_not_offered_and_the_others_are() {
    let place = Place::new();
    place.write("a.toml", "method = \"a\"\n");
    place.write("b.toml", "method = \"b\"\nkind = \"unit\"\nunit = \"b\"\n");
    let mut methods = place.read().await;
    assert_eq!(names(&methods, &Config::default()), ["b"]);
    let told = place.problem(&methods).expect("a problem");
    assert_eq!(told, "/etc/handlers.d/a.toml: kind: is not set; not offered until it is mended");

    place.write("b.toml", "method = \"b\"\nkind = \"unit\"\nunit = \"B\"\n");
    fs::remove_file(place.path("a.toml")).expect("the file");
    assert!(!methods.reload().await.expect("read"));
    let told = place.problem(&methods).expect("a problem");
    assert!(
        told.starts_with("/etc/handlers.d/b.toml:3: unit: ") && told.ends_with("mended, b stay as before"),
        "{told}"
    );
}

#[test]
fn the_names_that_manifests_may_not_take_are_those_of_all_methods_that_are_here() {
    let folders = Folders::from_env();
    let mut config = Config::default();
    assert_eq!(enabled(&folders, &config).len(), 0);
    config.methods.enable = own_methods::ENABLED.map(|name| Method::parse(name).expect("a name")).into();
    let handlers: Vec<Arc<dyn Handler>> = enabled(&folders, &config).into_iter().chain(built_in()).collect();
    let names = handlers.iter().map(|handler| handler.spec().name.to_string());
    let here: BTreeSet<String> = names.chain(own_names().map(str::to_owned)).collect();
    let taken = own_methods::ALWAYS.into_iter().chain(own_methods::ENABLED);
    assert_eq!(here, taken.map(str::to_owned).collect());
}
