//! What holds, key by key: the other way round from `raw.rs`.
//!
//! Secrets have no place in a configuration, only the paths of files that hold them, so nothing is left out. A test
//! holds this list and `raw.rs` together: what is written here is read there to the same configuration.

use std::path::Path;

use super::setting::Setting;
use super::{
    Answers, Cloud, Config, Hub, HubProof, IotHub, Mode, Provisioning, Proxy, Session, duration, rules, specifier,
};

impl Config {
    /// Every key that has a value, set or by default, in the order of the reference. Specifiers are filled in.
    ///
    /// Only the section of the chosen cloud counts.
    pub fn settings(&self) -> Vec<(&'static str, Setting)> {
        let text = |text: &str| Setting::Text(text.to_owned());
        let lasts = |lasts| Setting::Text(duration::show(lasts));
        let mut all = Vec::new();
        all.extend(self.device.as_ref().map(|id| ("device.id", Setting::Text(specifier::escaped(id.as_str())))));
        all.extend(self.cloud.as_ref().map(|cloud| ("cloud.kind", text(cloud.kind()))));
        if let Some(Cloud::IotHub(cloud)) = &self.cloud {
            all.extend(hub(cloud));
        }
        if let Some(Cloud::IotCore(cloud)) = &self.cloud {
            all.extend([
                ("cloud.iotcore.host", text(&cloud.host)),
                ("cloud.iotcore.port", Setting::Number(cloud.port.into())),
                ("cloud.iotcore.project_id", text(&cloud.project_id)),
                ("cloud.iotcore.region", text(&cloud.region)),
                ("cloud.iotcore.registry_id", text(&cloud.registry_id)),
            ]);
            all.extend(cloud.ca_file.as_ref().map(|path| ("cloud.iotcore.ca_file", text(&path.to_string_lossy()))));
            all.extend([
                ("cloud.iotcore.tls", Setting::Flag(cloud.tls)),
                ("cloud.iotcore.answers", text(cloud.answers.name())),
                ("cloud.iotcore.clean_session", Setting::Flag(cloud.clean_session)),
            ]);
        }
        all.extend([
            ("auth.lifetime", lasts(self.auth.lifetime)),
            ("session.keep_alive", lasts(self.session.keep_alive)),
            ("session.connect_timeout", lasts(self.session.connect_timeout)),
            ("session.backoff_max", lasts(self.session.backoff_max)),
            ("session.backoff_max_refused", lasts(self.session.backoff_max_refused)),
            ("session.clock_wait", lasts(self.session.clock_wait)),
        ]);
        if let Some(proxy) = &self.session.proxy {
            all.push(("session.proxy", text(&proxy.url())));
            let file = proxy.password_file.as_ref();
            all.extend(file.map(|path| ("session.proxy_password_file", text(&path.to_string_lossy()))));
        }
        all.extend([
            ("reboot.mode", text(self.reboot.mode.name())),
            ("reboot.simulate_for", lasts(self.reboot.simulate_for)),
            ("reboot.min_interval", lasts(self.reboot.min_interval)),
            ("reboot.min_uptime", lasts(self.reboot.min_uptime)),
            ("reboot.max_reboots", Setting::Number(self.reboot.max_reboots.into())),
            ("reboot.per", lasts(self.reboot.per)),
            ("reboot.healthy", lasts(self.reboot.healthy)),
            ("reboot.too_soon", text(self.reboot.too_soon.name())),
            ("reboot.grace", lasts(self.reboot.grace)),
            ("reboot.drain", lasts(self.reboot.drain)),
            ("reboot.inhibitor_wait", lasts(self.reboot.inhibitor_wait)),
            ("reboot.windows", Setting::list(&self.reboot.windows)),
            ("reboot.spread", lasts(self.reboot.spread)),
            ("reboot.allow_force", Setting::Flag(self.reboot.allow_force)),
            ("methods.enable", Setting::list(&self.methods.enable)),
            ("methods.disable", Setting::list(&self.methods.disable)),
            ("methods.log_units", Setting::list(&self.methods.log_units)),
            (
                "commands.alias",
                Setting::Table(
                    self.commands.alias.iter().map(|(name, method)| (name.to_string(), method.to_string())).collect(),
                ),
            ),
        ]);
        let default_method = self.commands.default_method.as_ref();
        all.extend(default_method.map(|method| ("commands.default_method", text(method.as_str()))));
        let group = |group: &Option<String>| text(group.as_deref().unwrap_or_default());
        all.extend([
            ("report.heartbeat", lasts(self.report.heartbeat)),
            ("local.read_group", group(&self.local.read_group)),
            ("local.act_group", group(&self.local.act_group)),
        ]);
        all
    }

    /// The proxy on the way to this broker. One on this machine is reached without.
    pub fn proxy_to(&self, host: &str) -> Option<&Proxy> {
        self.session.proxy.as_ref().filter(|_| !rules::is_loopback(host))
    }

    /// Whether a connection made under the one configuration is as good as one made under the other. Where it is not,
    /// a reload makes a new one.
    pub fn connects_as(&self, other: &Self) -> bool {
        let key = |config: &Self| {
            let Session { keep_alive, proxy, .. } = &config.session;
            (config.device.clone(), config.cloud.clone(), config.auth.lifetime, *keep_alive, proxy.clone())
        };
        key(self) == key(other)
    }
}

/// `[cloud.iothub]`. What a connection string said stands here too, without its key.
fn hub(cloud: &IotHub) -> Vec<(&'static str, Setting)> {
    let text = |text: &str| Setting::Text(text.to_owned());
    let path = |path: &Path| Setting::Text(path.to_string_lossy().into_owned());
    let string = match &cloud.proof {
        HubProof::ConnectionString(file) => Some(("cloud.iothub.connection_string_file", path(file))),
        HubProof::Key(_) | HubProof::Certificate { .. } => None,
    };
    let mut all = Vec::from_iter(string);
    if let Hub::Named(host) = &cloud.hub {
        all.push(("cloud.iothub.host", text(host)));
    }
    match &cloud.proof {
        HubProof::ConnectionString(_) => {}
        HubProof::Key(file) => all.push(("cloud.iothub.key_file", path(file))),
        HubProof::Certificate { chain, key } => {
            all.extend([("cloud.iothub.cert_file", path(chain)), ("cloud.iothub.cert_key_file", path(key))]);
        }
    }
    all.extend(cloud.gateway_host.as_ref().map(|host| ("cloud.iothub.gateway_host", text(host))));
    all.extend([
        ("cloud.iothub.websocket", Setting::Flag(cloud.websocket)),
        ("cloud.iothub.port", Setting::Number(cloud.port.into())),
    ]);
    all.extend(cloud.ca_file.as_ref().map(|file| ("cloud.iothub.ca_file", path(file))));
    all.extend(cloud.module_id.as_ref().map(|module| ("cloud.iothub.module_id", text(module))));
    all.extend(cloud.model_id.as_ref().map(|model| ("cloud.iothub.model_id", text(model))));
    if let Hub::Assigned(Provisioning { host, id_scope, registration_id }) = &cloud.hub {
        all.extend([
            ("cloud.iothub.provisioning.id_scope", text(id_scope)),
            ("cloud.iothub.provisioning.registration_id", text(registration_id)),
            ("cloud.iothub.provisioning.host", text(host)),
        ]);
    }
    all
}

impl Answers {
    /// As a file says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Events => "events",
        }
    }
}

impl Mode {
    /// As a file says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Logind => "logind",
            Self::Helper => "helper",
            Self::Simulate => "simulate",
        }
    }
}
