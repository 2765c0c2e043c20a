//! The 18 cases of kubernetes-lb-controller, each in all three ways to ask for an address. Knows the cases; where they
//! expect `spec.externalIPs` to be written, the status is meant.

use serde_json::{Value, json};

use crate::wheel::Wheel;

/// In no list.
const UNLISTED: &str = "198.51.100.1";

/// How a Service asks for an address.
#[derive(Clone, Copy, Debug)]
enum Way {
    ExternalIps,
    LoadBalancerIp,
    Annotation,
}

const WAYS: [Way; 3] = [Way::ExternalIps, Way::LoadBalancerIp, Way::Annotation];

/// One run of a case.
struct Run {
    wheel: Wheel,
    way: Way,
}

impl Run {
    /// `default` has .220 to .224, `test` has .225 to .229.
    fn new(way: Way) -> Self {
        let list = |addresses: &str, namespace: &str| {
            let addresses = json!({"include": [addresses]});
            json!({"addresses": addresses, "use": {"default": true, "namespaces": [namespace]}, "announce": {"external": {}}})
        };
        let default = ("of-default", list("203.0.113.220-203.0.113.224", "default"));
        let test = ("of-test", list("203.0.113.225-203.0.113.229", "test"));
        Self { wheel: Wheel::new(&[default, test]), way }
    }

    /// Applies a manifest without an address.
    fn auto(&mut self, place: &str) {
        self.wheel.apply(place, &json!({}));
        self.wheel.settle();
    }

    fn autos(&mut self, namespace: &str, names: std::ops::RangeInclusive<u8>) {
        for name in names {
            self.auto(&format!("{namespace}/s{name}"));
        }
    }

    /// Applies a manifest with an address.
    fn with(&mut self, place: &str, address: &str) {
        let (annotations, spec) = self.manifest(address);
        self.wheel.apply_with(place, &annotations, &spec);
        self.wheel.settle();
    }

    fn manifest(&self, address: &str) -> (Value, Value) {
        match self.way {
            Way::ExternalIps => (json!({}), json!({"externalIPs": [address]})),
            Way::LoadBalancerIp => (json!({}), json!({"loadBalancerIP": address})),
            Way::Annotation => (json!({"nave.dev/addresses": address}), json!({})),
        }
    }

    /// Deletes what a manifest names, whatever else the manifest says.
    fn delete(&mut self, place: &str) {
        self.wheel.delete(place);
        self.wheel.settle();
        assert!(self.wheel.service(place).is_none());
    }

    /// The last part of the address that a Service shows.
    fn shows(&self, place: &str) -> Option<u8> {
        let shown = self.wheel.shows(place);
        assert!(shown.len() <= 1, "{shown:?}");
        shown.first().map(|address| address.strip_prefix("203.0.113.").unwrap().parse().unwrap())
    }

    /// What the route table of the old controller would list as in use.
    fn in_use(&self) -> Vec<String> {
        self.wheel.records().iter().map(|line| line.trim_start_matches("203.0.113.").to_owned()).collect()
    }
}

fn in_every_way(case: impl Fn(&mut Run)) {
    for way in WAYS {
        case(&mut Run::new(way));
    }
}

#[test]
fn f01_the_sixth_and_the_seventh_of_seven_wait_for_five_addresses() {
    in_every_way(|run| {
        run.autos("default", 1..=7);
        let shown: Vec<_> = (1..=7).map(|name| run.shows(&format!("s{name}"))).collect();
        assert_eq!(shown, [Some(220), Some(221), Some(222), Some(223), Some(224), None, None]);
        assert_eq!((run.wheel.waits("s6"), run.wheel.waits("s7")), ("PoolExhausted".into(), "PoolExhausted".into()));
    });
}

#[test]
fn f02_two_namespaces_have_lists_of_their_own() {
    in_every_way(|run| {
        run.autos("default", 1..=5);
        run.autos("test", 1..=5);
        run.autos("default", 6..=6);
        run.autos("test", 6..=6);
        assert_eq!(
            (run.shows("default/s5"), run.shows("test/s1"), run.shows("test/s5")),
            (Some(224), Some(225), Some(229))
        );
        assert_eq!((run.shows("default/s6"), run.shows("test/s6")), (None, None));
    });
}

#[test]
fn f03_a_namespace_without_a_list_waits() {
    in_every_way(|run| {
        run.autos("elsewhere", 1..=4);
        let waits: Vec<_> = (1..=4).map(|name| run.wheel.waits(&format!("elsewhere/s{name}"))).collect();
        assert_eq!((waits, run.in_use()), (vec!["PoolNotOpen".to_owned(); 4], vec![]));
    });
}

#[test]
fn f04_the_second_of_five_comes_back_to_its_address() {
    in_every_way(|run| {
        run.autos("default", 1..=5);
        run.delete("s2");
        run.auto("s2");
        assert_eq!(run.shows("s2"), Some(221));
    });
}

#[test]
fn f05_the_third_and_the_fifth_come_back_to_theirs_when_all_had_gone() {
    in_every_way(|run| {
        run.autos("default", 1..=5);
        for name in 1..=5 {
            run.delete(&format!("s{name}"));
        }
        run.wheel.restart();
        run.auto("s3");
        run.auto("s5");
        assert_eq!((run.shows("s3"), run.shows("s5")), (Some(222), Some(224)));
    });
}

#[test]
fn f06_addresses_in_no_list_stay_in_the_spec_and_take_nothing() {
    in_every_way(|run| {
        for name in 1..=4 {
            let (place, address) = (format!("s{name}"), format!("198.51.100.{name}"));
            run.with(&place, &address);
            assert_eq!((run.shows(&place), run.wheel.waits(&place)), (None, "AddressNotOffered".into()));
            let (annotations, spec) = run.manifest(&address);
            let service = serde_json::to_value(run.wheel.service(&place).unwrap()).unwrap();
            for (name, value) in annotations.as_object().unwrap() {
                assert_eq!(&service["metadata"]["annotations"][name], value);
            }
            for (name, value) in spec.as_object().unwrap() {
                assert_eq!(&service["spec"][name], value);
            }
        }
        assert_eq!(run.in_use(), Vec::<String>::new());
    });
}

#[test]
fn f07_applied_again_without_an_address_it_keeps_its_own() {
    in_every_way(|run| {
        run.autos("default", 1..=2);
        run.delete("s1");
        run.auto("s2");
        assert_eq!(run.shows("s2"), Some(221));
    });
}

#[test]
fn f08_who_asks_for_an_address_in_no_list_is_told_and_served_on_until_he_asks_for_another() {
    in_every_way(|run| {
        run.auto("s1");
        run.with("s1", UNLISTED);
        assert_eq!((run.shows("s1"), run.wheel.waits("s1")), (Some(220), "AddressNotOffered".into()));
        run.with("s1", "203.0.113.222");
        assert_eq!((run.shows("s1"), run.in_use()), (Some(222), vec!["222 default/s1".into()]));
    });
}

#[test]
fn f09_who_gives_up_an_address_in_no_list_gets_one_of_the_list() {
    in_every_way(|run| {
        run.with("s1", UNLISTED);
        run.auto("s1");
        assert_eq!(run.shows("s1"), Some(220));
    });
}

#[test]
fn f10_who_asks_for_a_listed_address_moves_and_frees_his_own() {
    in_every_way(|run| {
        run.auto("s1");
        run.with("s1", "203.0.113.224");
        assert_eq!((run.shows("s1"), run.in_use()), (Some(224), vec!["224 default/s1".into()]));
    });
}

#[test]
fn f11_from_an_address_in_no_list_to_a_listed_one() {
    in_every_way(|run| {
        run.with("s1", UNLISTED);
        run.with("s1", "203.0.113.224");
        assert_eq!((run.shows("s1"), run.in_use()), (Some(224), vec!["224 default/s1".into()]));
    });
}

#[test]
fn f12_from_one_listed_address_to_another() {
    in_every_way(|run| {
        run.with("s1", "203.0.113.221");
        assert_eq!(run.shows("s1"), Some(221));
        run.with("s1", "203.0.113.224");
        assert_eq!((run.shows("s1"), run.in_use()), (Some(224), vec!["224 default/s1".into()]));
    });
}

#[test]
fn f13_who_got_an_address_and_goes_frees_it() {
    in_every_way(|run| {
        run.auto("s1");
        run.delete("s1");
        assert_eq!(run.in_use(), Vec::<String>::new());
    });
}

#[test]
fn f14_who_asked_for_an_address_frees_it_when_the_manifest_that_deletes_names_none() {
    in_every_way(|run| {
        run.with("s1", "203.0.113.221");
        run.delete("s1");
        assert_eq!(run.in_use(), Vec::<String>::new());
    });
}

#[test]
fn f15_who_got_an_address_and_goes_under_one_in_no_list_frees_his_own() {
    gone_under(None, UNLISTED);
}

#[test]
fn f16_who_goes_under_the_address_of_another_frees_his_own_and_not_that() {
    gone_under(Some("203.0.113.221"), "203.0.113.223");
}

#[test]
fn f17_who_goes_under_his_own_address_in_no_list_frees_nothing_of_others() {
    gone_under(Some(UNLISTED), UNLISTED);
}

#[test]
fn f18_who_goes_under_his_own_listed_address_frees_it() {
    gone_under(Some("203.0.113.221"), "203.0.113.221");
}

/// A last manifest names an address, and the Service goes before anybody has looked at that.
fn gone_under(live: Option<&str>, last: &str) {
    in_every_way(|run| {
        run.with("keeper", "203.0.113.223");
        match live {
            Some(address) => run.with("s1", address),
            None => run.auto("s1"),
        }
        let (annotations, spec) = run.manifest(last);
        run.wheel.apply_with("s1", &annotations, &spec);
        run.delete("s1");
        assert_eq!((run.in_use(), run.shows("keeper")), (vec!["223 default/keeper".into()], Some(223)));
        run.autos("default", 2..=5);
        assert_eq!(run.in_use().len(), 5, "what was freed is given again");
    });
}
